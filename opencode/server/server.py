"""`Server`: the server inside another program (API section 9)."""

import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any, Self

from opencode.errors import Unavailable
from opencode.server import logs, options
from opencode.server.factory import create_app
from opencode.server.listener import Listener, bind, listen
from opencode.server.listeners import Listener as EventListener
from opencode.server.listeners import Listeners
from opencode.server.middleware import App, Middleware, checked
from opencode.settings import environment
from opencode.undumpable import close_memory
from opencode.wiring import Services, build_services

log = logging.getLogger(__name__)

#: After the turns have ended, what connections get to send what is left.
_LAST_BYTES_S = 5.0
#: Listeners that `localhost` reaches too.
_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared only


class Server:
    """An OpenCode server in this process: threads serve it, or greenlets where the process is patched by gevent.

    Options go before environment variables, those before `opencode.toml`. Keys may be in camelCase.

    Args:
        host: address to listen on; `localhost` is 127.0.0.1 and ::1. Default: `localhost`.
        port: port to listen on; 0 takes a free one. Default: 3000.
        cors: `{"origin", "methods", "allowed_headers", "credentials"}`.
        auth: True, False, or `{"enabled", "tokens", "handler"}`.
        rate_limit: True, False, or `{"max_requests", "max_sessions", "window_ms"}`.
        more: any other setting by its name in lower case, such as `directory`, `model` or `data_dir`.

    Raises:
        SettingsError: an option is unknown, malformed or contradicts another; the message names it and the fix.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        cors: Mapping[str, Any] | None = None,
        auth: Mapping[str, Any] | bool | None = None,
        rate_limit: Mapping[str, Any] | bool | None = None,
        **more: Any,
    ) -> None:
        given = {"host": host, "port": port, "cors": cors, "auth": auth, "rate_limit": rate_limit, **more}
        self.settings, self._warnings, self._auth_handler = options.read(given)
        # Re-entrant: a signal may call `stop` while `start` runs in the same thread.
        self._lock = threading.RLock()
        # Held while it serves. A lock, since `stop` may be called by a signal in the midst of `wait`.
        self._serving = threading.Lock()
        self._middleware: list[Middleware] = []
        self._listeners = Listeners()
        self._app: App | None = None
        self._listener: Listener | None = None
        self._port: int | None = None
        self._token: str | None = None

    @property
    def app(self) -> App:
        """The WSGI app, for gunicorn or another server. The store is opened by the first look at it.

        Raises:
            SettingsError, StoreError: it cannot be put together; the message says why.
        """
        with self._lock:
            if self._app is None:
                self._app = self._build()
            return self._app

    def _build(self) -> App:
        if not logging.getLogger("opencode").hasHandlers():
            logs.set_up(self.settings)  # a program with a log of its own keeps it
        for warning in self._warnings:
            log.warning(warning)
        close_memory()  # its tools run as the same user, and could read keys there
        services = build_services(self.settings, environment())
        handler: dict[str, Any] = {} if self._auth_handler is None else {"auth_handler": self._auth_handler}
        try:
            app = create_app(services=services, listeners=self._listeners, **handler)
        except BaseException:
            services.stop(0.0)
            raise
        app.middleware = self._middleware
        self._token = app.config["NEW_TOKEN"]
        return app

    def use(self, middleware: Middleware) -> Middleware:
        """Put `middleware(request, call_next)` around every view, inside those that were given before.

        It gives a response, or None for that of `call_next()`. To refuse, it returns one of its own, or raises an error
        of `opencode.errors`; any other failure is logged, and the request goes on without it. Usable as a decorator.

        Raises:
            TypeError: it is no plain function.
        """
        self._middleware.append(checked(middleware))
        return middleware

    def on(self, event: str, listener: EventListener) -> EventListener:
        """Call `listener` whenever `event` happens.

        Events: request, session_created, session_deleted, message, tool_call, turn_done, error. The listener is called
        with the event, or with nothing where it takes no argument; on a thread of its own, one event at a time and in
        order. A failing one is logged.

        Raises:
            ValueError: there is no such event.
            TypeError: the listener is no plain function.
        """
        self._listeners.on(event, listener)
        return listener

    @property
    def services(self) -> Services:
        """What the app works with."""
        services: Services = self.app.extensions["opencode"]
        return services

    @property
    def token(self) -> str | None:
        """The token that was made for `app` because none is configured; None where none was made."""
        return self._token

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port is None:
            raise Unavailable("The server has not been started: call start() first.")
        return self._port

    @property
    def url(self) -> str:
        """Where clients reach it, such as `http://localhost:3000`."""
        host = "localhost" if self.settings.host in _EVERYWHERE else self.settings.host
        host = f"[{host}]" if ":" in host else host
        return self.settings.public_url or f"http://{host}:{self.port}"

    def start(self) -> Self:
        """Listen; returns when clients can connect. After a `stop` it starts anew, and goes on with what is stored.

        Raises:
            SettingsError: the port is busy, or a setting cannot be honoured.
            StoreError: the store is in use, or was written by a newer version.
        """
        with self._lock:
            if self._listener is not None:
                raise Unavailable(f"The server is running already, at {self.url}: stop() it first.")
            sockets = bind(self.settings.host, self.settings.port)
            self._port = int(sockets[0].getsockname()[1])
            try:
                self._listener = listen(self.app, sockets)
            except BaseException:
                for sock in sockets:
                    sock.close()
                self._drop_app()
                raise
            self._serving.acquire()  # let go of by `stop`
            self._announce()
        return self

    def _announce(self) -> None:
        log.info("listening at %s", self.url)
        if self.token is not None:
            # Not through the log: logs are kept and passed on.
            sys.stderr.write(f"\nThe token of this server: {self.token}\nauth={{'tokens': […]}} sets lasting ones.\n\n")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has stopped, at most `timeout_s` seconds; True when it has."""
        if not self._serving.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return False
        self._serving.release()
        return True

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop; nothing is lost. Without effect where it does not run.

        No new connections; running turns have `timeout_s` seconds to end, what is left of them goes on at the next
        start; then every stream ends, with the time to come back.
        """
        with self._lock:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.close()
            self._drop_app(timeout_s)
            if listener is not None:
                listener.end(_LAST_BYTES_S)
            self._listeners.drain(_LAST_BYTES_S)
            if listener is not None:
                self._serving.release()

    def _drop_app(self, timeout_s: float = 0.0) -> None:
        app, self._app = self._app, None
        if app is not None:
            services: Services = app.extensions["opencode"]
            services.stop(timeout_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()
