"""One request of a connection and its answer, under gunicorn's gevent worker.

It does what gunicorn's own `handle_request` does, and one thing more: where the answer is a stream that has nothing to
send, it can be put aside (`waiting.Parked`), so that no greenlet, and no stack of one, has to wait for it.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from gunicorn.http import wsgi

from opencode.server.waiting import Parked


class Connection(NamedTuple):
    """Where a request came from: the listener's address, its socket, and the client's address."""

    listener_name: Any
    sock: Any
    address: Any

    def getsockname(self) -> Any:
        """As the listener's."""
        return self.listener_name


class Exchange:
    """A request, and what its answer needs to go on."""

    __slots__ = ("_answer", "_began", "_body", "_chunks", "_environ", "_put_aside", "_worker", "connection", "request")

    def __init__(
        self,
        worker: Any,
        request: Any,
        connection: Connection,
        put_aside: Callable[["Exchange", Parked], bool],
    ) -> None:
        """`worker` and `request` are gunicorn's; `put_aside` says whether it will have `go_on` called again."""
        self._worker = worker
        self.request = request
        self.connection = connection
        self._put_aside = put_aside
        self._began = datetime.now()  # noqa: DTZ005 - for gunicorn's access log, which takes the difference
        self._environ: dict[str, Any] = {}
        self._answer: Any = None
        #: What the app gave, and where in it the answer is.
        self._body: Any = None
        self._chunks: Iterator[bytes] = iter(())

    def go_on(self) -> bool:
        """Answer, from the start or from where it was put aside. False: it is put aside, and all stays open.

        Raises:
            StopIteration: the connection is to be closed.
            OSError: the client has left.
        """
        aside = False
        try:
            aside = not self._go_on()
        except (StopIteration, OSError):
            raise
        except (Exception, SystemExit):
            if self._answer is None or not self._answer.headers_sent:
                raise
            # The answer has begun: a second one in the midst of it would be taken for a part of it.
            self._worker.log.exception("Error handling request")
            with suppress(OSError):
                self.connection.sock.shutdown(socket.SHUT_RDWR)
            raise StopIteration from None
        finally:
            if not aside:
                self._after()
        return not aside

    def _go_on(self) -> bool:
        if self._body is None:
            self._begin()
            if self._worker.is_already_handled(self._body):
                return True
        aside = False
        try:
            aside = not self._write()
            if not aside:
                self._answer.close()
        finally:
            if not aside:
                taken = datetime.now() - self._began  # noqa: DTZ005 - as above
                self._worker.log.access(self._answer, self.request, self._environ, taken)
                if hasattr(self._body, "close"):
                    self._body.close()
        if not aside and self._answer.should_close():
            raise StopIteration
        return not aside

    def _begin(self) -> None:
        worker, (name, sock, address) = self._worker, self.connection
        worker.cfg.pre_request(worker, self.request)
        self._answer, self._environ = wsgi.create(self.request, sock, address, name, worker.cfg)
        self._environ["wsgi.multithread"] = True
        worker.nr += 1
        if worker.nr >= worker.max_requests and worker.alive:
            worker.log.info("Autorestarting worker after current request.")
            worker.alive = False
        if not worker.alive or not worker.cfg.keepalive:
            self._answer.force_close()
        self._body = worker.wsgi(self._environ, self._answer.start_response)
        if not isinstance(self._body, wsgi.FileWrapper):
            self._chunks = iter(self._body)

    def _write(self) -> bool:
        answer = self._answer
        if isinstance(self._body, wsgi.FileWrapper):
            answer.write_file(self._body)
        for chunk in self._chunks:
            if isinstance(chunk, Parked):
                if self._put_aside(self, chunk):
                    return False
            else:
                answer.write(chunk)
        return True

    def _after(self) -> None:
        try:
            self._worker.cfg.post_request(self._worker, self.request, self._environ, self._answer)
        except Exception:  # a hook of the user's, after the answer
            self._worker.log.exception("Exception in post_request hook")
