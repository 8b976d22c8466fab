"""The API document, made from the URL map and the views' contracts, and so never out of step with them."""

import re
from typing import Any

from flask import Flask
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from opencode.errors import ApiError
from opencode.server import schemas
from opencode.server.routes import Contract
from opencode.session import events
from opencode.version import VERSION

_REF = "#/components/schemas/{model}"
_SCREEN_EVENTS = (
    "session_created",
    "session_deleted",
    "session_selected",
    "prompt",
    "message",
    "tool_call",
    "tool_result",
    "permission_request",
    "error",
    "done",
    "resync",
)

#: Events of a session's stream that are not in its log.
_UNSTORED: dict[str, dict[str, Any]] = {
    "session_deleted": {
        "type": "object",
        "properties": {"session_id": {"type": "string"}},
        "required": ["session_id"],
    },
    "resync": {"type": "object", "properties": {"seq": {"type": "integer"}}, "required": ["seq"]},
}


def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI 3.2 document of the app's routes."""
    contracts: list[tuple[str, str, str, Contract]] = [
        (rule.rule, method.lower(), rule.endpoint, contract)
        for rule in app.url_map.iter_rules()
        if (contract := getattr(app.view_functions[rule.endpoint], "contract", None)) is not None
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    paths: dict[str, Any] = {}
    for rule_text, method, endpoint, contract in sorted(contracts, key=lambda own: own[:2]):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule_text)
        paths.setdefault(path, {})[method] = _operation(path, endpoint, contract)
    return {
        "openapi": "3.2.0",
        "info": {"title": "OpenCode server", "version": VERSION, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": _schemas([contract for *_, contract in contracts]),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(path: str, endpoint: str, contract: Contract) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": contract.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ],
        "responses": {"200": _success(contract), **_also(contract), "default": _refused(contract)},
    }
    if contract.query is not None:
        operation["parameters"] += _query(contract.query)
    if contract.body is not None:
        required = any(field.is_required() for field in contract.body.model_fields.values())
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": _ref(contract.body)}},
        }
    if contract.scope is None:
        operation["security"] = []
    return operation


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in model.model_json_schema(ref_template=_REF)["properties"].items()
    ]


def _success(contract: Contract) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if contract.answer is not None:
        content["application/json"] = {"schema": _ref(contract.answer)}
    elif contract.text is not None:
        content[contract.text] = {"schema": {"type": "string"}}
    elif contract.streams is None:
        content["application/json"] = {"schema": {"type": "object"}}
    if contract.streams is not None:
        item = {"$ref": f"#/components/schemas/{contract.streams.capitalize()}Event"}
        content["text/event-stream"] = {"schema": {"type": "string"}, "itemSchema": item}
    return {"description": contract.summary, "content": content}


def _also(contract: Contract) -> dict[str, Any]:
    return {
        str(status): {"description": meaning}
        | ({"content": {"application/json": {"schema": _ref(model)}}} if model is not None else {})
        for status, meaning, model in contract.also
    }


def _refused(contract: Contract) -> dict[str, Any]:
    codes = ", ".join(sorted({*contract.codes, *_common_codes()}))
    return {
        "description": f"Refused. `error.code` is one of: {codes}.",
        "content": {"application/json": {"schema": _ref(schemas.ErrorEnvelope)}},
    }


def _common_codes() -> set[str]:
    """Codes that every route may answer: those of the checks before it, and of the server itself."""
    own = {"SESSION_BUSY", "PERMISSION_ANSWERED", "IDEMPOTENCY_CONFLICT"}
    return {kind.code for kind in ApiError.__subclasses__()} - own


def _schemas(contracts: list[Contract]) -> dict[str, Any]:
    models: set[type[BaseModel]] = {model for own in contracts for model in (own.body, own.answer) if model}
    models |= {model for own in contracts for _status, _meaning, model in own.also if model}
    models.add(schemas.ErrorEnvelope)
    wanted = [(model, "validation") for model in sorted(models, key=lambda own: own.__name__)]
    _map, definitions = models_json_schema(wanted, ref_template=_REF)  # type: ignore[arg-type] # a literal, widened
    found: dict[str, Any] = dict(definitions["$defs"])
    names = []
    for event in events.EVENTS:
        name = f"{event.__name__}Event"
        found[f"{event.__name__}Data"] = TypeAdapter(event).json_schema(ref_template=_REF)
        found[name] = _event(event.name, {"$ref": _REF.format(model=f"{event.__name__}Data")})
        names.append(name)
    for word, data in _UNSTORED.items():
        name = f"{word.title().replace('_', '')}Event"
        found[name] = _event(word, data)
        names.append(name)
    found["SessionEvent"] = {"anyOf": [{"$ref": _REF.format(model=name)} for name in names]}
    found["ScreenEvent"] = _event(None, {"type": "object"})
    return found


def _event(name: str | None, data: dict[str, Any]) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 sees it: its fields are the lines of the frame."""
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "event": {"enum": list(_SCREEN_EVENTS)} if name is None else {"const": name},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        },
    }
