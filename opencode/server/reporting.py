"""Each request, once: in the access log, the metrics, and to the listeners. A stream is reported when it ends."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, g, request

from opencode import telemetry
from opencode.server.listeners import Listeners
from opencode.server.metrics import Metrics
from opencode.server.tally import Tally
from opencode.session.notable import Stored
from opencode.wiring import Services

log = logging.getLogger("opencode.access")

#: Of an address, what lets its bearer in.
_SECRETS = re.compile(r"(?<=[?&])(ticket|token|code)=[^&#]*", re.IGNORECASE)
_NO_SPAN = telemetry.Span(None)
_IDS = {"session_id", "turn_id"}
_FAULT = 500
_LIMITED = 429
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class _Report:
    """What is known of a request when its answer begins."""

    started: float
    method: str
    path: str
    url: str
    route: str
    status: int
    request_id: str
    owner: str
    ids: dict[str, str]

    def ended(self, tally: Tally | None) -> tuple[float, dict[str, Any]]:
        """Milliseconds until now, and all there is to say of the request, as attributes."""
        duration = (time.perf_counter() - self.started) * 1000
        sent = {} if tally is None else {"bytes": tally.length, "events": tally.events}
        who = {"request_id": self.request_id, "owner": self.owner, **self.ids}
        what = {"method": self.method, "route": self.route, "status": self.status, "duration": round(duration, 1)}
        return duration, {**what, **who, **sent}


def register(app: Flask, services: Services, listeners: Listeners, metrics: Metrics) -> None:
    """Report the app's requests and what its sessions do."""
    _watch(services, listeners, metrics)

    @app.before_request
    def begin() -> None:
        g.span = _begin_span() if telemetry.is_on() else _NO_SPAN

    @app.after_request
    def report(response: Response) -> Response:
        about = _report(response, with_url=listeners.listened_to("request"))
        span: telemetry.Span = g.span
        tally: Tally | None = g.get("tally")
        if tally is None or not response.is_streamed:
            metrics.request(about.method, about.route, about.status, time.perf_counter() - about.started)
            if about.status == _LIMITED:
                metrics.limited(response.get_data(as_text=True))
            _tell(about, None, listeners, span)
            return response
        metrics.stream_opened(about.method, about.route)

        def ended() -> None:
            metrics.stream_ended(about.route, time.perf_counter() - about.started)
            _tell(about, tally, listeners, span)

        response.call_on_close(_once(ended))
        return response


def _begin_span() -> telemetry.Span:
    about = {"http.request.method": request.method, "http.route": _route(), "request_id": g.request_id}
    return telemetry.begin(f"{request.method} {_route()}", about, headers=dict(request.headers))


def _route() -> str:
    return request.url_rule.rule if request.url_rule is not None else "unmatched"


def _report(response: Response, *, with_url: bool) -> _Report:
    ids = {name: quote(value) for name, value in (request.view_args or {}).items() if name in _IDS}
    if "turn_id" in g:
        ids["turn_id"] = g.turn_id
    return _Report(
        started=g.started,
        method=request.method,
        # Quoted again: a line break in a path must not begin a line of its own.
        path=quote(request.path),
        url=_SECRETS.sub(r"\1=…", request.url) if with_url else "",  # it costs as much as all the rest
        route=_route(),
        status=response.status_code,
        request_id=g.request_id,
        owner=g.caller.owner if "caller" in g else "anonymous",
        ids=ids,
    )


def _tell(about: _Report, tally: Tally | None, listeners: Listeners, span: telemetry.Span) -> None:
    duration, data = about.ended(tally)
    sent = "" if tally is None else f" {tally.events} events {tally.length} bytes"
    log.info("%s %s %d %.1f ms%s", about.method, about.path, about.status, duration, sent, extra={"data": data})
    span.note({"http.response.status_code": about.status, "owner": about.owner, **about.ids})
    span.end(failed=str(about.status) if about.status >= _FAULT else None)
    listeners.tell("request", **data, url=about.url)
    if about.status >= _FAULT:
        message = f"{about.method} {about.path} failed with {about.status}."
        code = "UNAVAILABLE" if about.status == _UNAVAILABLE else "INTERNAL_ERROR"
        listeners.tell("error", **{"session_id": None, "turn_id": None, **data}, code=code, message=message)


def _once(function: Callable[[], None]) -> Callable[[], None]:
    """A response may be closed more than once."""
    left = [function]
    return lambda: left.pop()() if left else None


def _watch(services: Services, listeners: Listeners, metrics: Metrics) -> None:
    def stored(commit: Sequence[Stored]) -> None:
        if any(map(listeners.listened_to, ("message", "tool_call", "turn_done", "error"))):
            for append in commit:
                for event, data in append.notable():
                    _tell_of(event, data, append, listeners)

    def on_session(event: str) -> Callable[..., None]:
        def told(_sender: object, session: Any) -> None:
            listeners.tell(event, session_id=session.id, owner=session.owner, model=session.resolved_model)

        return told

    services.log.watchers += [metrics.stored, stored]
    services.sessions.session_created.connect(on_session("session_created"), weak=False)
    services.sessions.session_deleted.connect(on_session("session_deleted"), weak=False)
    services.watch.turn_began.connect(metrics.turn_began)
    services.watch.turn_left.connect(metrics.turn_left)
    services.watch.provider_failed.connect(metrics.provider_failed)


def _tell_of(event: str, data: dict[str, Any], append: Stored, listeners: Listeners) -> None:
    ids = {"session_id": data["session_id"], "turn_id": data["turn_id"]}
    if event == "turn_start":
        listeners.tell(
            "message", **ids, message_id=data["message_id"], role="user", content=data["content"], model=data["model"]
        )
    elif event == "done":
        message_id, content = append.answer()
        listeners.tell("message", **ids, message_id=message_id, role="assistant", content=content)
        listeners.tell("turn_done", **data)
    elif event in {"tool_call", "error"}:
        listeners.tell(event, **data)
