"""One envelope for everything that goes wrong before the first byte (API section 1)."""

import logging
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from opencode.errors import (
    ApiError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    StoreError,
    Unavailable,
)
from opencode.server.answers import json_response

log = logging.getLogger(__name__)


def envelope(error: ApiError, request_id: str | None = None) -> dict[str, Any]:
    """The body of an error answer."""
    body: dict[str, Any] = {"code": error.code, "message": error.message, "status": error.status}
    if error.details:
        body["details"] = error.details
    if request_id is not None:
        body["request_id"] = request_id
    return {"error": body}


def translated(exc: Exception) -> ApiError:
    """Any exception in the API's words; a fault of ours is logged."""
    if isinstance(exc, ApiError):
        return exc
    return _unavailable(exc) if isinstance(exc, StoreError) else _fault(exc)


def register(app: Flask) -> None:
    """Handle every exception of the app."""

    def answer(error: ApiError) -> Response:
        shown_id = g.get("request_id") if isinstance(error, InternalError) else None
        response = json_response(envelope(error, shown_id), status=error.status)
        response.headers.update(error.headers)
        return response

    app.register_error_handler(ApiError, answer)
    app.register_error_handler(HTTPException, lambda exc: answer(from_http(exc)))
    app.register_error_handler(StoreError, lambda exc: answer(translated(exc)))
    app.register_error_handler(Exception, lambda exc: answer(translated(exc)))


def from_http(exc: HTTPException) -> ApiError:
    """Werkzeug's own refusals in our words."""
    allowed = ", ".join(sorted(getattr(exc, "valid_methods", None) or ()))
    match exc.code:
        case 404:
            return NotFound(f"There is nothing at {request.path[:200]}. The API is described at /openapi.json.")
        case 405:
            return MethodNotAllowed(
                f"{request.method} is not allowed at {request.path[:200]}; allowed: {allowed}.",
                headers={"Allow": allowed},
            )
        case 413:
            return PayloadTooLarge("The body is larger than the server takes (OPENCODE_MAX_BODY_BYTES).")
        case code if code is not None and code < 500:  # noqa: PLR2004 - client errors
            return InvalidRequest(exc.description or "The request could not be read.")
        case _:
            return InternalError("The server failed.")


def _unavailable(exc: StoreError) -> ApiError:
    log.error("store: %s", exc)
    return Unavailable("The store is out of reach; try again in a moment.", headers={"Retry-After": "5"})


def _fault(exc: Exception) -> ApiError:
    log.error("request failed", exc_info=exc)
    return InternalError("The server failed. Its log has the reason, under this request id.")
