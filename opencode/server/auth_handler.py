"""A custom check of tokens, given to `create_app` by who embeds the server (API section 8)."""

import asyncio
import atexit
import inspect
import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

#: Gets the token that a request brings. Lets in by `True`, or by a name, which is the owner; plain or async.
AuthHandler = Callable[[str], Any]

#: How long an async handler may take; a plain one cannot be cut short.
_PATIENCE_S = 10.0


def ask(handler: AuthHandler, token: str) -> Any:
    """What the handler answers, awaited where it is async; None where it fails, which is logged."""
    try:
        answer = handler(token)
        if inspect.isawaitable(answer):
            answer = _LOOP.wait_for(answer)
    except Exception:  # it is another's code; a request that it fails on is not let in
        trace = traceback.format_exc().replace(token, "***")
        log.error("the custom auth handler failed; the request was refused\n%s", trace)  # noqa: TRY400 - without the token
        return None
    if inspect.iscoroutine(answer):  # of an async handler that did not await: truthy, and no answer
        answer.close()
        log.error("the custom auth handler answered with a coroutine that it did not await; the request was refused")
        return None
    return answer


class _Loop:
    """The event loop of all async handlers, in a thread of its own that begins with the first call.

    One a process: under gevent, threads share the system's one, in which only one loop can run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait_for(self, awaitable: Any) -> Any:
        """Its result; `TimeoutError` where that takes too long."""
        return asyncio.run_coroutine_threadsafe(_result(awaitable), self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(loop,), name="auth-handler", daemon=True)
                thread.start()
                atexit.register(loop.call_soon_threadsafe, loop.stop)
            return self._loop


async def _result(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, _PATIENCE_S)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


_LOOP = _Loop()
