"""The schemas of the API document: models of bodies and answers, the events of both kinds of streams, the tools."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from opencode.server import schemas, tui_schemas
from opencode.server.routes import Contract
from opencode.session import events

REF = "#/components/schemas/{model}"

_STRING = {"type": "string"}
_SESSION = {"type": "object", "properties": {"session_id": _STRING}, "required": ["session_id"]}

#: Events of a session's stream that are not in its log.
_UNSTORED: dict[str, dict[str, Any]] = {
    "session_deleted": _SESSION,
    "resync": {"type": "object", "properties": {"seq": {"type": "integer"}}, "required": ["seq"]},
}
#: Events that a screen shows as the session's log has them.
_SHOWN_AS_THEY_ARE = ("tool_result", "permission_request", "permission_reply", "done")


def ref(model: str | type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model if isinstance(model, str) else model.__name__)}


def of_query(model: type[BaseModel]) -> list[dict[str, Any]]:
    """A query's fields as parameters."""
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in model.model_json_schema(ref_template=REF)["properties"].items()
    ]


def all_schemas(contracts: Iterable[Contract], codes: list[str]) -> dict[str, Any]:
    """By name, all that the document refers to; `codes` are those of refusals."""
    found = _models(contracts)
    found["ErrorBody"]["properties"]["code"]["enum"] = codes
    found |= _session_events()
    found |= _screen_events()
    return found


def _models(contracts: Iterable[Contract]) -> dict[str, Any]:
    models = {model for own in contracts for model in (own.body, own.answer) if model}
    models |= {model for own in contracts for _status, _meaning, model in own.also if model}
    models |= {schemas.ErrorEnvelope, tui_schemas.ScreenState}
    wanted = [(model, "validation") for model in sorted(models, key=lambda own: own.__name__)]
    _map, definitions = models_json_schema(wanted, ref_template=REF)  # type: ignore[arg-type] # a literal, widened
    return dict(definitions["$defs"])


def _session_events() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in events.EVENTS:
        found[f"{kind.__name__}Data"] = TypeAdapter(kind).json_schema(ref_template=REF)
        found[f"{kind.__name__}Event"] = _event(kind.name, ref(f"{kind.__name__}Data"))
    for name, data in _UNSTORED.items():
        found[f"{_title(name)}Data"] = data
        found[f"{_title(name)}Event"] = _event(name, ref(f"{_title(name)}Data"))
    return found | _any_of("Session", [own.removesuffix("Event") for own in found if own.endswith("Event")])


def _screen_events() -> dict[str, Any]:
    """What a screen shows of the log also says in which session it happened."""
    shown: dict[str, Any] = {name: {"allOf": [ref(f"{_title(name)}Data"), _SESSION]} for name in _SHOWN_AS_THEY_ARE}
    shown |= {
        "session_created": _SESSION,
        "session_deleted": _SESSION,
        "session_selected": _SESSION,
        "prompt": _object(text="string", cursor="integer"),
        "message": _object(type="string", content="string", role="string", session_id="string"),
        "tool_call": {"allOf": [ref("ToolCallData"), _SESSION, {"type": "object", "properties": {"command": {}}}]},
        "error": _object(message="string", code="string", session_id="string"),
        "toast": _object(message="string", level="string"),
        "resync": ref(tui_schemas.ScreenState),
    }
    found: dict[str, Any] = {}
    for name, data in shown.items():
        found[f"Screen{_title(name)}Data"] = data
        found[f"Screen{_title(name)}Event"] = _event(name, ref(f"Screen{_title(name)}Data"))
    return found | _any_of("Screen", [own.removesuffix("Event") for own in found if own.endswith("Event")])


def _any_of(stream: str, names: list[str]) -> dict[str, Any]:
    """Any event of a stream, and the data of any, which is what tools that know no `itemSchema` can use."""
    return {
        f"{stream}Event": {"anyOf": [ref(f"{name}Event") for name in names]},
        f"{stream}EventData": {
            "description": "The data of one event; which event it is says the line `event:` before it.",
            "anyOf": [ref(f"{name}Data") for name in names],
        },
    }


def _object(**types: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
        "additionalProperties": True,
    }


def _title(name: str) -> str:
    return name.title().replace("_", "")


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 sees it: its fields are the lines of the frame."""
    return {
        "type": "object",
        "properties": {
            "id": _STRING,
            "event": {"const": name},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        },
        "required": ["event", "data"],
    }
