"""A view's contract: what it takes and gives. It checks requests, and the API document is made from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import Flask, Response, current_app, request
from pydantic import BaseModel, ConfigDict, ValidationError

from opencode.errors import InvalidRequest, UnsupportedMediaType
from opencode.server.answers import json_response
from opencode.server.reading import body_deadline

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
    #: Whether the answer of success is 101, and what follows no longer HTTP.
    upgrades: bool = False
    #: Further answers of success, by status: what it says, and its body where it has one.
    also: tuple[tuple[int, str, type[BaseModel] | None], ...] = ()
    #: The scope that a token needs; None for routes that are open to all.
    scope: str | None = "read"
    #: A page for people: a link on another site may lead to it.
    page: bool = False


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


def put_off(app: Flask) -> Iterator[Callable[[], object]]:
    """What checks requests and is made when it is first used: the models of bodies and queries, one by one."""
    for view in app.view_functions.values():
        contract: Contract | None = getattr(view, "contract", None)
        for model in (contract.body, contract.query) if contract is not None else ():
            if model is not None:
                yield model.model_rebuild


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
    with body_deadline(request.environ, current_app.config["BODY_TIMEOUT_S"]):
        data = request.get_data()  # 413 before 415: too large is too large, whatever it is
        if request.content_length is None:
            request.stream.read(1)  # raises where a body that did not say its length was cut off at the limit
    check_media_type()
    try:
        return model.model_validate_json(data.strip() or b"{}")
    except ValidationError as exc:
        raise invalid(exc) from None


def _query() -> dict[str, str]:
    return {name: values[-1] for name, values in request.args.lists()}


def _parsed(model: type[BaseModel], values: dict[str, str]) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise invalid(exc) from None


def invalid(exc: ValidationError) -> InvalidRequest:
    """What pydantic found, in the words of the API: each field by name."""
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
