"""What can go wrong between a client and a server.

ClientError
├── ApiError        the server refused, in the envelope of API section 1
├── Unreachable     no connection, or it broke before the answer was there
├── StreamLost      a stream was cut, and reconnecting was in vain
└── ProtocolError   what came is not what the API promises
"""

from typing import Any

from opencode.errors import OpenCodeError

#: Refusals that may be over in a moment; what was asked for has not been done.
_TEMPORARY = frozenset({429, 502, 503, 504})


class ClientError(OpenCodeError):
    """Root of what `opencode.client` raises."""


class ApiError(ClientError):
    """An answer of 400 or above.

    `code`, `status`, `message` and `details` are the envelope's; `retry_after_s` is what `Retry-After` says.
    An answer without an envelope (some proxy's) has the code `HTTP_<status>`.
    """

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        *,
        details: list[dict[str, Any]] | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.status = status
        self.message = message
        self.details = details or []
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be answered in a moment."""
        return self.status in _TEMPORARY


class Unreachable(ClientError):
    """There is no connection to the server, or it broke before the answer was there (`was_connected`)."""

    def __init__(self, message: str, *, was_connected: bool = True) -> None:
        super().__init__(message)
        self.was_connected = was_connected


class StreamLost(ClientError):
    """A stream was cut, and reconnecting was in vain for as long as the client has patience.

    `last_seq` is the last event that was seen, None for none: following from there misses nothing.
    """

    def __init__(self, message: str, *, session_id: str, turn_id: str | None, last_seq: int | None) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.turn_id = turn_id
        self.last_seq = last_seq


class ProtocolError(ClientError):
    """What came is not what the API promises: another program answers there, or the server has a fault."""
