"""`/health`: for probes, so never behind auth, limits, Host or Origin checks (API section 7)."""

import time
from typing import Literal

from flask import Blueprint, Response, current_app

from opencode.errors import ApiError, Unavailable
from opencode.server import schemas
from opencode.server.answers import json_response
from opencode.server.context import services
from opencode.server.errors import envelope
from opencode.server.routes import route
from opencode.version import VERSION

health = Blueprint("health", __name__, url_prefix="/health")


@health.get("")
@route(summary="Whether the server lives", answer=schemas.Health, scope=None)
def live() -> schemas.Health:
    uptime = int(time.monotonic() - current_app.config["STARTED"])
    return schemas.Health(status="ok", uptime=uptime, version=VERSION)


@health.get("/ready")
@route(summary="Whether the server can work", answer=schemas.Readiness, codes=("UNAVAILABLE",), scope=None)
def ready() -> Response:
    found = {}
    for name, check in services().checks().items():
        try:
            check()
            found[name] = "ok"
        except Exception as exc:  # a check may fail in any way; that is what it is for
            # Open to all: of what was not written for callers only the kind is told; it may name a path or a secret.
            found[name] = str(exc) if isinstance(exc, ApiError) else type(exc).__name__
    well = set(found.values()) == {"ok"}
    models = services().models
    model = models.resolve(None)
    missing = models.provider(model.provider).missing()
    status: Literal["ready", "unavailable"] = "ready" if well else "unavailable"
    answer = schemas.Readiness(status=status, checks=found, model=str(model), provider=missing or "ok")
    if well:
        return json_response(answer.model_dump(exclude_none=True))
    failed = ", ".join(name for name, state in found.items() if state != "ok")
    error = Unavailable(f"The server is not ready: {failed}.", headers={"Retry-After": "5"})
    response = json_response(answer.model_dump(exclude_none=True) | envelope(error), status=error.status)
    response.headers.update(error.headers)
    return response
