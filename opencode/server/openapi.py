"""The API document, made from the URL map and the views' contracts, and so never out of step with them."""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
from flask import Flask, Response

from opencode.server import openapi_refusals as refusals
from opencode.server import openapi_schemas
from opencode.server.openapi_schemas import ref
from opencode.server.routes import Contract
from opencode.version import VERSION

if TYPE_CHECKING:
    from opencode.wiring import Services

#: Real answers, written by `python -m scripts.api_examples`.
EXAMPLES = Path(__file__).with_name("openapi_examples.json")

_ABOUT = """An HTTP server that puts an AI coding agent behind sessions and turns. Whatever the agent says and does \
arrives as Server-Sent Events, each of them stored before it is shown.

Every answer of 400 and above is an `ErrorEnvelope`:

"""
#: What an operation is about, by the first part of its path; in the order in which people meet them.
_TAGS = {
    "session": "Sessions",
    "sessions": "Sessions",
    "models": "Models and projects",
    "project": "Models and projects",
    "login": "Signing in",
    "logout": "Signing in",
    "ticket": "Signing in",
    "ws": "WebSocket",
    "tui": "Shared screens",
    "health": "Health and monitoring",
    "metrics": "Health and monitoring",
}
_OTHER_TAG = "Pages and documents"
_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "Made where it is not given; echoed, and written in every log line.",
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{1,64}$"},
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event already seen; goes before `?after=`. Browsers send it by themselves.",
    "schema": {"type": "string", "maxLength": 100},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body within 24 hours is the same request, done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async`: 202 at once, and the turn goes on.",
    "schema": {"type": "string", "examples": ["respond-async"]},
}


@cache
def _examples() -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", orjson.loads(EXAMPLES.read_bytes()))


def answer(app: Flask) -> Response:
    """The document in JSON; made at the first request, since the routes do not change after it."""
    made = cast("bytes | None", app.extensions.get("opencode-document"))
    if made is None:
        made = app.extensions["opencode-document"] = orjson.dumps(document(app))
    return Response(made, content_type="application/json")


def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI 3.2 document of the app's routes."""
    contracts: list[tuple[str, str, str, Contract]] = [
        (rule.rule, method.lower(), rule.endpoint, contract)
        for rule in app.url_map.iter_rules()
        if (contract := getattr(app.view_functions[rule.endpoint], "contract", None)) is not None
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    paths: dict[str, Any] = {}
    groups = refusals.none_of_a_route()
    for rule_text, method, endpoint, contract in sorted(contracts, key=lambda own: own[:2]):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule_text)
        groups += (own := refusals.of_operation(path, method, contract))
        paths.setdefault(path, {})[method] = _operation(path, method, endpoint, contract, own)
    _link(paths)
    codes = list(dict.fromkeys(kind.code for kind in refusals.kinds()))
    errors = _examples()["errors"]
    tools, arguments = _tools(app)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "OpenCode server",
            "version": VERSION,
            "description": _ABOUT + refusals.table(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": openapi_schemas.all_schemas([contract for *_, contract in contracts], codes) | arguments,
            "responses": {refusals.name(group): refusals.response(group, errors) for group in groups},
            "securitySchemes": _security_schemes(),
        },
        "security": [{}, {"token": []}, {"cookie": []}],
        "tags": [{"name": name} for name in dict.fromkeys([*_TAGS.values(), _OTHER_TAG])],
        "x-tools": tools,
    }


def _security_schemes() -> dict[str, Any]:
    return {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "a token of OPENCODE_AUTH_TOKENS, or the printed one",
        },
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "by POST /api/ticket"},
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-opencode",
            "description": "by POST /api/login; on plain http its name is opencode_<port>",
        },
    }


def _tools(app: Flask) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a session's `tools` may name, and the schemas of their arguments."""
    toolbox = cast("Services", app.extensions["opencode"]).tools
    tools, arguments = {}, {}
    for tool in toolbox.specs(toolbox.names):
        name = f"{tool.name.title()}Arguments"
        tools[tool.name] = {"description": tool.description, "arguments": ref(name)}
        arguments[name] = tool.parameters
    return tools, arguments


def _operation(
    path: str, method: str, endpoint: str, contract: Contract, groups: list[refusals.Kinds]
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "tags": [_tag(path)],
        "summary": contract.summary,
        "parameters": _parameters(path, method, contract),
        "responses": {
            **_success(contract, f"{method.upper()} {path}"),
            **{str(own[0].status): {"$ref": f"#/components/responses/{refusals.name(own)}"} for own in groups},
        },
    }
    if contract.body is not None:
        required = any(field.is_required() for field in contract.body.model_fields.values())
        content = {"schema": ref(contract.body)} | _shown(_examples()["requests"], f"{method.upper()} {path}")
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    if contract.scope is None:
        operation["security"] = []
    else:
        operation["description"] = f"Needs a token with the scope `{contract.scope}`, where authentication is on."
        if method == "get":
            operation["security"] = [{}, {"token": []}, {"cookie": []}, {"ticket": []}]
    return operation


def _tag(path: str) -> str:
    first, *more = path.strip("/").split("/")
    return _TAGS.get(more[0] if first == "api" else first, _OTHER_TAG)


def _parameters(path: str, method: str, contract: Contract) -> list[dict[str, Any]]:
    named = re.findall(r"{(\w+)}", path)
    found = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named]
    found += openapi_schemas.of_query(contract.query) if contract.query is not None else []
    if contract.streams is not None and method == "get":
        found.append(_LAST_EVENT_ID)
    if "IDEMPOTENCY_CONFLICT" in contract.codes:
        found.append(_IDEMPOTENCY_KEY)
    if any(status == 202 for status, *_ in contract.also):  # noqa: PLR2004 - Accepted
        found.append(_PREFER)
    return [*found, _REQUEST_ID]


def _success(contract: Contract, operation: str) -> dict[str, Any]:
    if contract.upgrades:
        # What is spoken from there on is beyond OpenAPI; docs/api.md has it.
        description = "The connection is a WebSocket from here on: JSON objects as text messages."
        return {"101": {"description": description}}
    content: dict[str, Any] = {}
    if contract.answer is not None:
        content["application/json"] = {"schema": ref(contract.answer)} | _shown(_examples()["answers"], operation)
    elif contract.text is not None:
        content[contract.text] = {"schema": {"type": "string"}}
    elif contract.streams is None:
        content["application/json"] = {"schema": {"type": "object"}}
    if contract.streams is not None:
        stream = contract.streams.capitalize()
        # `schema` would be that of all events together. Generators that know no `itemSchema` (openapi-ts, which the
        # tests run, is one) take it for the data of one event, and are of no use without.
        schema = {"schema": ref(f"{stream}EventData"), "itemSchema": ref(f"{stream}Event")}
        text = _examples()["streams"].get(operation)
        shown = {"examples": {"example": {"serializedValue": text}}} if text is not None else {}
        content["text/event-stream"] = schema | shown
    return {"200": {"description": contract.summary, "content": content}, **_also(contract, operation)}


def _link(paths: dict[str, Any]) -> None:
    """Say where the ids that an answer holds can be used."""
    operations = {
        own["operationId"]: set(re.findall(r"{(\w+)}", path))
        for path, methods in paths.items()
        for own in methods.values()
    }
    for path, methods in paths.items():
        here = set(re.findall(r"{(\w+)}", path))
        for own in methods.values():
            for status, response in own["responses"].items():
                given = _ids(response) - here
                if status < "300" and given:
                    response["links"] = {
                        name: {"operationId": name, "parameters": _parameters_from(needed, given)}
                        for name, needed in operations.items()
                        if needed & given and needed <= given | here
                    }


def _ids(response: dict[str, Any]) -> set[str]:
    """The ids that the answer in JSON holds at its top."""
    model = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return {"session_id"} if model.endswith("/SessionCreated") else {"turn_id"} if "/Turn" in model else set()


def _parameters_from(needed: set[str], given: set[str]) -> dict[str, str]:
    return {name: f"$response.body#/{name}" if name in given else f"$request.path.{name}" for name in sorted(needed)}


def _also(contract: Contract, operation: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, meaning, model in contract.also:
        found[str(status)] = {"description": meaning}
        if model is not None:
            content = {"schema": ref(model)} | _shown(_examples()["answers"], f"{operation} {status}")
            found[str(status)]["content"] = {"application/json": content}
    return found


def _shown(recorded: dict[str, Any], name: str) -> dict[str, Any]:
    return {"examples": {"example": {"value": recorded[name]}}} if name in recorded else {}
