"""What views reach for: the services and limits of the app that serves the request."""

from hashlib import sha256
from typing import TYPE_CHECKING, cast

from flask import current_app, g, request

from opencode.errors import InvalidRequest
from opencode.server.limits import Limits
from opencode.server.tally import Tally
from opencode.session.keys import Key
from opencode.session.service import SessionService
from opencode.session.tail import Park
from opencode.wiring import Services

if TYPE_CHECKING:
    from opencode.server.middleware import App

_KEY_CHARS = 255


def services() -> Services:
    return cast("Services", current_app.extensions["opencode"])


def sessions() -> SessionService:
    return services().sessions


def limits() -> Limits:
    return cast("Limits", current_app.extensions["opencode-limits"])


def waiting_place() -> Park | None:
    """Where the stream that answers the request waits for what is new; None where its generator does."""
    pump = current_app.extensions.get("opencode-pump")
    # Middleware may change what is sent; so all of it must pass the generator.
    if pump is None or cast("App", current_app).middleware:
        return None
    return cast("Park | None", pump.place(request.environ, g.setdefault("tally", Tally())))


def owner() -> str:
    """The owner that the request's token names."""
    return str(g.caller.owner)


def idempotency_key() -> Key | None:
    """The request's `Idempotency-Key`, bound to its method, path and body.

    Raises:
        InvalidRequest: it is longer than 255 characters.
    """
    given = request.headers.get("Idempotency-Key", "")
    if not given:
        return None
    if len(given) > _KEY_CHARS:
        message = f"an Idempotency-Key has at most {_KEY_CHARS} characters"
        raise InvalidRequest(message, details=[{"field": "Idempotency-Key", "message": message}])
    # An async and a waiting request differ in the answer's form only: the body alone tells one command from another.
    return Key(f"{request.method} {request.path}", given, sha256(request.get_data()).hexdigest())
