"""The one tree of exceptions.

OpenCodeError
├── ApiError             answered to a client in the envelope of API section 1
│   ├── InvalidRequest · Unauthorized · Forbidden · NotFound · SessionNotFound · MethodNotAllowed
│   ├── SessionBusy · PermissionAnswered · IdempotencyConflict
│   └── PayloadTooLarge · UnsupportedMediaType · NotAcceptable · RateLimitExceeded · InternalError · Unavailable
├── TurnError            ends a turn as an `error` event (API section 3)
│   └── ProviderError    from a model's provider; says whether asking again can help
├── ToolError            goes back to the model as a result with `is_error`
├── StoreError           the store could not do it
│   ├── StoreBusy        it may do it in a moment
│   ├── StaleAttempt     a writer that has lost its turn
│   └── KeyTaken         an idempotency key that was used before
├── WebhookFailed        a webhook did not arrive
├── SettingsError        stops the start
└── Cancelled            control flow: the turn's switch was turned
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class OpenCodeError(Exception):
    """Root of all errors that this package raises on purpose."""


class ApiError(OpenCodeError):
    """An answer of 400 or above; `message` is written for the caller and holds no secret."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        details: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.headers = dict(headers or {})


class InvalidRequest(ApiError):
    """Malformed JSON, a missing or wrong field, an unknown tool or key."""

    code = "INVALID_REQUEST"
    status = 400


class Unauthorized(ApiError):
    """No token, or a wrong one."""

    code = "UNAUTHORIZED"
    status = 401


class Forbidden(ApiError):
    """The token lacks the scope, or Origin or Host is not allowed."""

    code = "FORBIDDEN"
    status = 403


class NotFound(ApiError):
    """Unknown route or resource."""

    code = "NOT_FOUND"
    status = 404


class SessionNotFound(ApiError):
    """No such session, or another owner's: existence is not disclosed."""

    code = "SESSION_NOT_FOUND"
    status = 404

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session not found: {session_id}")


class MethodNotAllowed(ApiError):
    """The path exists, the method does not."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class NotAcceptable(ApiError):
    """The Accept header admits neither an event stream nor JSON."""

    code = "INVALID_REQUEST"
    status = 406


class SessionBusy(ApiError):
    """A turn is running and `when_busy` is `reject`."""

    code = "SESSION_BUSY"
    status = 409


class PermissionAnswered(ApiError):
    """Another answer came first."""

    code = "PERMISSION_ANSWERED"
    status = 409


class IdempotencyConflict(ApiError):
    """The key was used before with another body."""

    code = "IDEMPOTENCY_CONFLICT"
    status = 409


class PayloadTooLarge(ApiError):
    """The body is over the limit."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class UnsupportedMediaType(ApiError):
    """A body that is not `application/json`."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class RateLimitExceeded(ApiError):
    """Too many requests, sessions, streams or turns."""

    code = "RATE_LIMIT_EXCEEDED"
    status = 429


class InternalError(ApiError):
    """A fault of ours; the request id leads to the log line."""


class Unavailable(ApiError):
    """Shutting down, or the store is out of reach."""

    code = "UNAVAILABLE"
    status = 503


class TurnError(OpenCodeError):
    """Ends a turn: becomes its `error` event. `message` is for the user and holds no secret."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ProviderError(TurnError):
    """A model's provider failed.

    `retryable` says that the same request may succeed later, `retry_after_s` when the provider named a time.
    Codes: PROVIDER_NOT_CONFIGURED, PROVIDER_AUTH, PROVIDER_RATE_LIMIT, PROVIDER_UNAVAILABLE, PROVIDER_ERROR,
    CONTEXT_OVERFLOW (API section 3).
    """

    def __init__(self, message: str, *, code: str, retryable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ToolError(OpenCodeError):
    """A tool could not do what was asked; the message is meant for the model, which may try again."""


class StoreError(OpenCodeError):
    """The store could not do it."""


class StoreBusy(StoreError):
    """Locked, or the connection is lost: the same may succeed in a moment."""


class KeyTaken(StoreError):
    """The idempotency key was used before; what was answered then is remembered."""


class StaleAttempt(StoreError):
    """The turn has another owner now, or has ended: this writer must stop."""


class WebhookFailed(OpenCodeError):
    """A webhook did not arrive; with `final` it never will."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class SettingsError(OpenCodeError):
    """A setting is malformed or two contradict; the message names it, its form and the fix."""


class Cancelled(OpenCodeError):
    """The turn's switch was turned; `reason` says by what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
