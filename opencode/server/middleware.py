"""Middleware of `Server.use`: plain functions around the view, in order of use (API section 9).

They run after the access checks, so a request that is refused there never reaches them, and before validation.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from flask.wrappers import Request
from werkzeug.exceptions import HTTPException

from opencode.errors import ApiError

log = logging.getLogger(__name__)

#: `call_next()` goes on and gives the response; once: a second call gives the same one.
CallNext = Callable[..., Response]
#: Gives the response, or None for that of `call_next`. To refuse, it returns a response of its own, or raises one of
#: `opencode.errors` or of Werkzeug. **Contract:** any other failure is logged, and the request goes on without it.
Middleware = Callable[[Request, CallNext], Any]


def checked(middleware: Middleware) -> Middleware:
    """Refuse what could not be called when a request comes."""
    if not callable(middleware):
        raise TypeError(f"middleware must be a function of (request, call_next), not {middleware!r}")
    if inspect.iscoroutinefunction(middleware):
        raise TypeError(f"middleware must be a plain function: leave out `async` and `await` in {middleware!r}")
    return middleware


class App(Flask):
    """Flask, with middleware around its views."""

    #: In order of use; whoever made the app may add to it at any time.
    middleware: list[Middleware]

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.middleware = []

    def dispatch_request(self) -> Any:
        """See `flask.Flask.dispatch_request`."""
        if not self.middleware:
            return super().dispatch_request()
        return self._through(tuple(self.middleware))

    def _through(self, chain: tuple[Middleware, ...]) -> Response:
        if not chain:
            return self._answer()
        passed: list[Response] = []

        def call_next(_request: Request | None = None) -> Response:
            if not passed:
                passed.append(self._through(chain[1:]))
            return passed[0]

        try:
            given = chain[0](request._get_current_object(), call_next)  # type: ignore[attr-defined] # noqa: SLF001 - the request itself: a proxy is none in another thread
            response = call_next() if given is None else self.make_response(given)
        except (ApiError, HTTPException) as refusal:
            response = self.make_response(self.handle_user_exception(refusal))
        except Exception:  # it is a stranger's; the request must not suffer
            log.exception("middleware %r failed", getattr(chain[0], "__qualname__", chain[0]))
            response = call_next()
        if passed and passed[0] is not response:
            # Its own stream, if it is one, holds a place until it is closed; the new response may well wrap it.
            response.call_on_close(passed[0].close)
        return response

    def _answer(self) -> Response:
        try:
            answer = super().dispatch_request()
        except Exception as exc:  # the middleware sees what the client will see
            answer = self.handle_user_exception(exc)
        return self.make_response(answer)
