"""A view's contract: what it takes and gives. It checks requests, and the API document is made from it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import Response, request
from pydantic import BaseModel, ConfigDict, ValidationError

from opencode.errors import InvalidRequest, UnsupportedMediaType
from opencode.server.answers import json_response

_JSON = "application/json"
#: Of a message that pydantic wrote; the rest is noise to a caller.
_DETAILS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """`streams` names what kind of events a stream gives; `codes` are the refusals of the view's own."""

    summary: str
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    streams: str | None = None
    #: The media type of an answer that is plain text.
    text: str | None = None
    codes: tuple[str, ...] = ()
    #: Further answers of success, by status: what it says, and its body where it has one.
    also: tuple[tuple[int, str, type[BaseModel] | None], ...] = ()
    #: The scope that a token needs; None for routes that are open to all.
    scope: str | None = "read"


class _Nothing(BaseModel):
    """The body of a request that needs none."""

    model_config = ConfigDict(extra="forbid")


def route(**contract: Any) -> Callable[[Callable[..., Any]], Callable[..., Response]]:
    """Give a view its contract: `body` and `query` arrive as checked arguments; a returned model becomes JSON."""
    agreed = Contract(**contract)

    def decorate(view: Callable[..., Any]) -> Callable[..., Response]:
        @wraps(view)
        def checked(**arguments: Any) -> Response:
            if agreed.query is not None:
                arguments["query"] = _parsed(agreed.query, _query())
            if agreed.body is not None:
                arguments["body"] = _body(agreed.body)
            elif request.method not in {"GET", "HEAD"}:
                _body(_Nothing)
            answer = view(**arguments)
            return json_response(answer.model_dump()) if isinstance(answer, BaseModel) else answer

        checked.contract = agreed  # type: ignore[attr-defined] # the view carries its contract to the API document
        return checked

    return decorate


def check_media_type() -> None:
    """A body must be declared as JSON; that also stops the simple requests of foreign pages.

    Raises:
        UnsupportedMediaType: it is not; the message shows the header to send.
    """
    has_body = bool(request.content_length) or "Transfer-Encoding" in request.headers
    if has_body and request.mimetype != _JSON:
        raise UnsupportedMediaType(
            f"The body is {request.mimetype[:100] or 'of no declared type'!r}; send it with the header"
            f" 'Content-Type: {_JSON}'."
        )


def _body(model: type[BaseModel]) -> BaseModel:
    data = request.get_data()  # 413 before 415: too large is too large, whatever it is
    if request.content_length is None:
        request.stream.read(1)  # raises where a body that did not say its length was cut off at the limit
    check_media_type()
    try:
        return model.model_validate_json(data.strip() or b"{}")
    except ValidationError as exc:
        raise _invalid(exc) from None


def _query() -> dict[str, str]:
    return {name: values[-1] for name, values in request.args.lists()}


def _parsed(model: type[BaseModel], values: dict[str, str]) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise _invalid(exc) from None


def _invalid(exc: ValidationError) -> InvalidRequest:
    details = [
        {"field": ".".join(str(place) for place in error["loc"])[:200], "message": _sentence(error)}
        for error in exc.errors(include_url=False, include_input=False)[:_DETAILS]
    ]
    first = details[0]
    where = f"{first['field']}: " if first["field"] else ""
    return InvalidRequest(f"{where}{first['message']}", details=details)


def _sentence(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "json_invalid":
        return f"the body is not valid JSON: {error['ctx']['error']}"
    if error["type"] == "model_type":
        return "the body must be a JSON object"
    return str(error["msg"])
