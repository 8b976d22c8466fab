"""What a route may refuse, for the API document: each status with its codes, headers, and a real answer."""

from typing import Any

from opencode.errors import (
    ApiError,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    PayloadTooLarge,
    RateLimitExceeded,
    RequestTimeout,
    SessionNotFound,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    UpgradeRequired,
    UriTooLong,
)
from opencode.server.routes import Contract

_EVERYWHERE = (InvalidRequest, NotFound, UriTooLong, HeadersTooLarge, RateLimitExceeded, InternalError, Unavailable)
_WITH_BODY = (RequestTimeout, PayloadTooLarge, UnsupportedMediaType)
#: The headers that come with a status.
_HEADERS = {
    401: {"WWW-Authenticate": "the kind of token that is asked for"},
    405: {"Allow": "the methods that the path has"},
    426: {"Upgrade": "what to ask for"},
    429: {"Retry-After": "seconds to wait"},
    503: {"Retry-After": "seconds to wait"},
}

Kinds = tuple[type[ApiError], ...]


def kinds() -> list[type[ApiError]]:
    """All refusals of the API, by status and code."""
    return sorted(ApiError.__subclasses__(), key=lambda kind: (kind.status, kind.code))


def of_operation(path: str, method: str, contract: Contract) -> list[Kinds]:
    """What the operation may be answered with beside success: the refusals, grouped by status."""
    found: set[type[ApiError]] = {*_EVERYWHERE, *(kind for kind in kinds() if kind.code in _own(contract))}
    if not path.startswith("/health"):
        found.add(Forbidden)
    if contract.scope is not None:
        found.add(Unauthorized)
    if "{session_id}" in path or "IDEMPOTENCY_CONFLICT" in contract.codes:  # what a key once made may be deleted
        found.add(SessionNotFound)
    if method != "get":
        found.update(_WITH_BODY)
    if contract.streams is not None and contract.answer is not None:
        found.add(NotAcceptable)
    if contract.upgrades:
        found.add(UpgradeRequired)
    return _by_status(found)


def _own(contract: Contract) -> set[str]:
    return set(contract.codes) - {InvalidRequest.code}  # several statuses have that one


def none_of_a_route() -> list[Kinds]:
    """What only those meet who ask for what the document does not have."""
    return [(MethodNotAllowed,)]


def _by_status(found: set[type[ApiError]]) -> list[Kinds]:
    statuses = sorted({kind.status for kind in found})
    return [tuple(kind for kind in kinds() if kind in found and kind.status == status) for status in statuses]


def name(group: Kinds) -> str:
    """The group's name among the document's responses."""
    return "Or".join(kind.__name__ for kind in group)


def response(group: Kinds, examples: dict[str, Any]) -> dict[str, Any]:
    """The response object; `examples` are real answers, by the name of the refusal."""
    status = group[0].status
    codes = [kind.code for kind in group]
    meanings = " ".join(f"`{kind.code}`: {(kind.__doc__ or '').strip()}" for kind in group)
    exact = {"code": {"enum": codes}, "status": {"const": status}}
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/ErrorEnvelope"},
            {"type": "object", "properties": {"error": {"type": "object", "properties": exact}}},
        ]
    }
    shown = {kind.__name__: {"value": examples[kind.__name__]} for kind in group if kind.__name__ in examples}
    content = {"schema": schema} | ({"examples": shown} if shown else {})
    found: dict[str, Any] = {"description": meanings, "content": {"application/json": content}}
    if status in _HEADERS:
        found["headers"] = {
            own: {"description": meaning, "schema": {"type": "string"}} for own, meaning in _HEADERS[status].items()
        }
    return found


def table() -> str:
    """All codes and their statuses, in Markdown."""
    rows = [f"| `{kind.code}` | {kind.status} | {(kind.__doc__ or '').strip()} |" for kind in kinds()]
    return "\n".join(["| code | status | when |", "|---|---|---|", *rows])
