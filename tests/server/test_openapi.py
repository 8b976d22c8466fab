"""The API document: true to the routes, and to what they really send."""

import json
import re

import jsonschema
import pytest
from openapi_spec_validator import validate

from opencode.errors import ApiError, ProviderError
from opencode.provider.port import Reasoning, Text, ToolCall, Usage
from opencode.provider.scripted import Fail
from opencode.server.openapi import EXAMPLES
from scripts import api_examples
from tests.server.talk import create, follow, path, routes, say, stream, turn
from tests.sse import Parser


@pytest.fixture(scope="module")
def document(make_lasting_app):
    return make_lasting_app().test_client().get("/openapi.json").json


def resolve(document, schema):
    """What a reference leads to."""
    while "$ref" in schema:
        node = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            node = node[step]
        schema = node
    return schema


def check(document, schema, value):
    """`value` is what the document says of it. A field that it does not name is a field that it forgot."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)
    found = resolve(document, schema)
    if isinstance(value, dict) and "properties" in found and not found.get("additionalProperties"):
        assert set(value) <= set(found["properties"]), set(value) - set(found["properties"])


def test_the_document_is_valid(document):
    assert document["openapi"].startswith("3.2")
    validate(document)


def test_every_route_is_documented_with_every_method_and_nothing_else(document, make_app):
    app = make_app()
    documented = {(method.upper(), address) for address, own in document["paths"].items() for method in own}

    served = {(method, re.sub(r"<(\w+:)?(\w+)>", r"{\2}", rule)) for method, rule, _ in routes(app)}

    assert documented == served


def operations(document):
    for address, own in document["paths"].items():
        for method, operation in own.items():
            yield method, address, operation


def test_every_operation_says_what_it_does_takes_and_gives(document):
    ids = []
    for method, address, operation in operations(document):
        ids.append(operation["operationId"])
        assert operation["summary"], address
        named = {own["name"] for own in operation["parameters"] if own["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", address))
        # An upgrade has no answer but itself.
        assert ("101" in operation["responses"]) is (address == "/ws")
        assert address == "/ws" or operation["responses"]["200"]["content"], address
        assert ("requestBody" in operation) <= (method in {"post", "patch", "put"})
    assert len(ids) == len(set(ids))


def refusals(document, operation):
    """By status, the codes that an operation may be refused with."""
    found = {}
    for status, response in operation["responses"].items():
        if status >= "400":
            error = resolve(document, response)["content"]["application/json"]["schema"]["allOf"]
            assert error[0] == {"$ref": "#/components/schemas/ErrorEnvelope"}
            exact = error[1]["properties"]["error"]["properties"]
            assert exact["status"] == {"const": int(status)}
            found[int(status)] = set(exact["code"]["enum"])
    return found


def test_every_error_code_is_documented_with_its_status_where_it_can_come(document):
    kinds = {(kind.status, kind.code) for kind in ApiError.__subclasses__()}
    told = {(405, "METHOD_NOT_ALLOWED")}
    for method, address, operation in operations(document):
        own = refusals(document, operation)
        told |= {(status, code) for status, codes in own.items() for code in codes}
        assert own[400] == {"INVALID_REQUEST"}
        assert own.keys() >= {404, 414, 429, 431, 500, 503}
        assert (401 in own) is (operation.get("security") != [] or address == "/api/login")
        assert ({408, 413, 415} <= own.keys()) is (method != "get")
        elsewhere = (address, method) in {("/tui/input", "post"), ("/api/session", "post")}
        assert ("SESSION_NOT_FOUND" in own[404]) is ("{session_id}" in address or elsewhere)
        if address.endswith("/message") and method == "post":
            assert own[409] == {"SESSION_BUSY", "IDEMPOTENCY_CONFLICT"}
            assert own[406] == {"INVALID_REQUEST"}
        if "/permission/" in address:
            assert own[409] == {"PERMISSION_ANSWERED"}
    assert told == kinds
    assert set(document["components"]["schemas"]["ErrorBody"]["properties"]["code"]["enum"]) == {
        code for _, code in kinds
    }
    for status, code in kinds:
        assert f"| `{code}` | {status} | " in document["info"]["description"]


def test_the_examples_are_what_the_app_answers_now(tmp_path):
    recorded = api_examples.as_text(api_examples.record(tmp_path))

    assert recorded == EXAMPLES.read_text(encoding="utf-8"), "run: python -m scripts.api_examples"


def test_every_operation_has_a_real_answer_as_its_example(document):
    for method, address, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                continue
            for kind, content in response.get("content", {}).items():
                if address == "/openapi.json" or kind in {"text/plain", "text/html"}:
                    continue
                assert "examples" in content, (method, address, kind)
                (example,) = content["examples"].values()
                if kind == "application/json":
                    check(document, content["schema"], example["value"])
                else:
                    check_events(document, content["itemSchema"], Parser().feed(example["serializedValue"].encode()))
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            check(document, content["schema"], content["examples"]["example"]["value"])


def test_refusals_show_real_answers(document):
    shown = {
        name: example["value"]
        for response in document["components"]["responses"].values()
        for name, example in response["content"]["application/json"].get("examples", {}).items()
    }

    # Not to be had in a moment: a body that never comes, and a fault of ours.
    assert {kind.__name__ for kind in ApiError.__subclasses__()} - set(shown) == {"RequestTimeout", "InternalError"}
    for name, value in shown.items():
        kind = next(kind for kind in ApiError.__subclasses__() if kind.__name__ == name)
        assert (value["error"]["code"], value["error"]["status"]) == (kind.code, kind.status)


def test_the_arguments_of_every_tool_are_described(document, make_app):
    offered = make_app().extensions["opencode"].tools

    assert list(document["x-tools"]) == list(offered.names)
    for tool in document["x-tools"].values():
        schema = resolve(document, tool["arguments"])
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]
        assert tool["description"]


def test_only_what_is_open_is_said_to_be_open(document):
    open_ones = {address for _, address, operation in operations(document) if operation.get("security") == []}

    pages = {"/", "/static/{name}", "/docs", "/static/docs/{name}"}
    assert open_ones == {"/health", "/health/ready", "/openapi.json", "/api/login", *pages}
    assert "token" in document["components"]["securitySchemes"]


def test_every_reference_leads_somewhere_and_every_schema_is_used(document):
    text = json.dumps(document)
    for kind in ("schemas", "responses"):
        referred = set(re.findall(rf'"#/components/{kind}/(\w+)"', text))
        unused = {"MethodNotAllowed"} if kind == "responses" else set()  # no operation that there is answers it
        assert referred | unused == set(document["components"][kind])
    assert "$defs" not in text


def test_query_parameters_are_documented_with_their_bounds(document):
    listed = document["paths"]["/api/sessions"]["get"]["parameters"]
    limit = next(own for own in listed if own["name"] == "limit")
    assert limit["schema"].items() >= {"minimum": 1, "maximum": 200, "default": 50}.items()
    followed = {own["name"] for own in document["paths"]["/api/session/{session_id}/message"]["get"]["parameters"]}
    assert followed >= {"session_id", "after", "until", "turn"}


def answer_schema(document, method, address):
    return document["paths"][address][method]["responses"]["200"]["content"]["application/json"]["schema"]


def test_real_answers_are_as_they_are_documented(document, make_app):
    app = make_app()
    client = app.test_client()
    session_id = create(client, title="t")
    turn_id = turn(client, session_id)[0].data["turn_id"]
    bodies = {
        "/api/session": {}, "/api/session/{session_id}": {"title": "x"}, "/tui/input": {"type": "text", "text": "x"},
        "/api/session/{session_id}/message": {"content": "x"},
        "/api/login": {"token": "any, where none is asked for"}, "/api/ticket": {"path": "/tui/events"},
        "/api/render": {"texts": ["x"]},
    }  # fmt: skip
    checked = 0
    for method, address, operation in sorted(operations(document), key=lambda own: own[0] == "delete"):
        content = operation["responses"].get("200", {}).get("content", {})
        if "application/json" not in content or "permission" in address:
            continue
        target = address.replace("{session_id}", session_id).replace("{turn_id}", turn_id)
        body = bodies.get(address, {}) if "requestBody" in operation else None
        response = client.open(target, method=method.upper(), json=body, headers={"Accept": "application/json"})
        assert response.status_code in {200, 202}, (target, response.text)
        check(document, content["application/json"]["schema"], response.json)
        checked += 1
    assert checked >= 14


def test_real_errors_are_as_they_are_documented(document, make_app):
    app = make_app()
    client = app.test_client()
    envelope = {"$ref": "#/components/schemas/ErrorEnvelope"}

    for method, rule, _ in routes(app):
        response = client.open(path(rule), method=method, json={"surprise": 1} if method != "GET" else None)
        if response.status_code >= 400:
            check(document, envelope, response.json)
            check(document, {"$ref": "#/components/schemas/ErrorBody"}, response.json["error"])


def test_bodies_that_the_document_forbids_are_refused_and_those_it_allows_are_not(document, make_app):
    client = make_app().test_client()
    schema = document["paths"]["/api/session"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    for body in (
        {}, {"title": "x"}, {"title": None}, {"model": "gpt-4", "tools": []}, {"permission": {"bash": "ask"}},
        {"title": 1}, {"surprise": 1}, {"tools": "bash"}, {"permission": {"bash": "maybe"}}, {"title": "x" * 201}, [],
        {"model": ""}, {"tools": [""]},
    ):  # fmt: skip
        assert (client.post("/api/session", json=body).status_code == 200) is validator.is_valid(body), body


# Streams


def event_schema(document, address, method="get"):
    content = document["paths"][address][method]["responses"]["200"]["content"]["text/event-stream"]
    return content["itemSchema"]


def check_events(document, schema, events):
    """Each event is one of those documented, its fields are the lines, and its data is of the schema it names."""
    for event in events:
        (line,) = event.lines
        frame = {"event": event.name, "data": line} | ({} if event.id is None else {"id": event.id})
        check(document, schema, frame)
        kinds = [resolve(document, own) for own in resolve(document, schema).get("anyOf", [schema])]
        kinds = [resolve(document, kind) for kind in kinds]
        (kind,) = [
            own
            for own in kinds
            if own["properties"]["event"].get("const") == event.name
            or event.name in own["properties"]["event"].get("enum", ())
        ]
        data = kind["properties"]["data"]
        assert data["contentMediaType"] == "application/json"
        check(document, data["contentSchema"], json.loads(line))


def test_real_events_are_as_they_are_documented(document, make_app):
    call = ToolCall("call_1", "bash", {"command": "echo hi"})
    broken = Fail(ProviderError("cut", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=0.0))
    script = [[Reasoning("hm"), broken, Text("a"), call, Usage(1, 1)], [Text("b"), Usage(1, 1)]]
    client = make_app(script).test_client()
    schema = event_schema(document, "/api/session/{session_id}/message")
    assert event_schema(document, "/api/session/{session_id}/message", "post") == schema
    asking, keyless = create(client, permission={"bash": "ask"}), create(client, model="claude-3-sonnet")

    opened = say(client, asking)
    seen = opened.until("permission_request")
    permission_id = seen[-1].data["permission_id"]
    client.post(f"/api/session/{asking}/permission/{permission_id}", json={"response": "once"})
    seen += opened.rest() + turn(client, keyless)
    client.patch(f"/api/session/{asking}", json={"title": "x", "model": None, "tools": [], "permission": {}})
    seen += follow(client, asking, "?until=end").rest()
    beyond = follow(client, asking, headers={"Last-Event-ID": "9999"})
    seen.append(next(beyond))
    client.delete(f"/api/session/{asking}")
    seen += beyond.rest()

    assert {event.name for event in seen} >= {
        "turn_start", "step", "text", "reasoning", "tool_call", "tool_output", "tool_result", "permission_request",
        "permission_reply", "error", "done", "session_updated", "resync", "session_deleted",
    }  # fmt: skip
    check_events(document, schema, seen)


def test_real_events_of_a_screen_are_as_they_are_documented(document, make_app):
    call = ToolCall("call_1", "bash", {"command": "echo hi"})
    client = make_app([[Text("a"), call, Usage(1, 1)], [Text("b"), Usage(1, 1)]]).test_client()
    screen = stream(client.get("/tui/events", headers={"Last-Event-ID": "other-1"}))
    seen = [next(screen)]
    client.post("/tui/input", json={"type": "text", "text": "hi"})
    client.post("/tui/input", json={"type": "keypress", "key": "enter"})
    seen += screen.until("done")
    client.delete(f"/api/session/{client.get('/tui/state').json['session_id']}")
    seen += screen.until("session_deleted")

    assert {event.name for event in seen} >= {
        "resync", "prompt", "session_created", "session_selected", "message", "tool_call", "tool_result", "done",
    }  # fmt: skip
    check_events(document, event_schema(document, "/tui/events"), seen)


def test_the_data_of_every_event_is_described_field_by_field(document):
    for name, schema in document["components"]["schemas"].items():
        if not name.endswith("Event") or name in {"SessionEvent", "ScreenEvent"}:
            continue
        data = resolve(document, schema["properties"]["data"]["contentSchema"])
        parts = [resolve(document, part) for part in data.get("allOf", [data])]
        fields = {field for part in parts for field in part["properties"]}
        assert fields, name
        assert {field for part in parts for field in part.get("required", ())} <= fields


def test_the_document_needs_no_token_and_is_the_same_for_everyone(make_app, document):
    client = make_app(auth_tokens=("t",)).test_client()

    assert client.get("/openapi.json").json == document


def test_the_answers_of_success_beside_200_are_documented_as_they_are(make_app):
    client = make_app().test_client()
    paths = client.get("/openapi.json").json["paths"]["/api/session/{session_id}/message"]
    session_id = create(client)

    begun = client.post(
        f"/api/session/{session_id}/message", json={"content": "go"}, headers={"Prefer": "respond-async"}
    )
    ended = follow(client, session_id, f"?turn={begun.json['turn_id']}").rest()
    seen = {"Last-Event-ID": ended[-1].id}
    nothing_left = client.get(f"/api/session/{session_id}/message?turn={begun.json['turn_id']}", headers=seen)

    assert begun.status_code == 202
    assert sorted(begun.json) == ["seq", "turn_id"]
    schema = paths["post"]["responses"]["202"]["content"]["application/json"]["schema"]["$ref"]
    assert schema.endswith("/TurnAccepted")
    assert (nothing_left.status_code, nothing_left.data) == (204, b"")
    assert "content" not in paths["get"]["responses"]["204"]
