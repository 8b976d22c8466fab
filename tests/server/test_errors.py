"""One envelope for everything that goes wrong, and nothing of it stored (API section 1)."""

import io
import json
import re

import pytest

from tests.server.talk import (
    REQUEST_ID,
    STATUSES,
    create,
    database,
    path,
    refused,
    routes,
    store_out_of_reach,
    stored,
    turn,
)
from tests.sse import check_turn

HUGE = 3000
BODY_METHODS = {"POST", "PUT", "PATCH"}
WRONG = {"json": [[]]}  # of no field's type


@pytest.fixture(scope="module")
def app(make_lasting_app):
    return make_lasting_app(max_body_bytes=HUGE)


def with_body(app):
    """Routes that take a body: method, path and the body's model."""
    session_id = create(app.test_client())
    return [(method, path(rule, session_id), own.body) for method, rule, own in routes(app) if own.body is not None]


def test_every_view_of_the_app_has_a_contract(app):
    assert all(contract is not None for _, _, contract in routes(app))
    assert len(list(routes(app))) > 15


# Routes


@pytest.mark.parametrize(
    "address",
    ["/nope", "/api", "/api/nope", "/api/sessions/", "/health/", "/health/nope", "/tui", "/%00", "/%ff", "/é/🎈",
     "/api/session/a/b/c", "/api/session//message", "/..", "/" + "x" * 4000],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "FOO"])
def test_an_unknown_route_is_not_found_in_the_envelope(client, address, method):
    response = client.open(address, method=method)

    error = refused(response, 404, "NOT_FOUND", "/openapi.json")
    assert len(error["message"]) < 400


def test_a_wrong_method_is_refused_with_those_that_are_allowed(app):
    client = app.test_client()
    allowed: dict[str, set[str]] = {}
    for method, rule, _ in routes(app):
        allowed.setdefault(rule, set()).add(method)

    for rule, methods in allowed.items():
        for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO"} - methods:
            response = client.open(path(rule), method=wrong)
            refused(response, 405, "METHOD_NOT_ALLOWED", wrong, *methods)
            named = set(re.split(r", *", response.headers["Allow"]))
            assert named >= methods, (rule, wrong, named)
            assert wrong not in named


def test_a_head_is_answered_as_its_get_without_a_body(app):
    client = app.test_client()
    session_id = create(client)
    for method, rule, _ in routes(app):
        if method == "GET" and "turn_id" not in rule:
            response = client.head(path(rule, session_id))
            own = 426 if rule == "/ws" else 200
            assert (response.status_code, response.data) == (own, b""), rule


def test_options_name_the_methods_of_every_route(app):
    client = app.test_client()
    for method, rule, _ in routes(app):
        response = client.options(path(rule))
        assert response.status_code == 200
        assert method in response.headers["Allow"]


def test_a_session_that_there_is_none_of_is_not_found_on_every_route_of_sessions(app):
    client = app.test_client()
    least = {"SendMessage": {"content": "x"}, "AnswerPermission": {"response": "once"}}
    before = stored(app)
    found = 0
    for method, rule, contract in routes(app):
        if "<session_id>" not in rule:
            continue
        found += 1
        body = None if contract.body is None else least.get(contract.body.__name__, {})
        refused(client.open(path(rule), method=method, json=body), 404, "SESSION_NOT_FOUND", "ses_missing")
    assert found >= 9
    assert stored(app) == before


# Bodies


NO_OBJECTS = ["[]", "[1]", '"text"', "null", "true", "12", "1.5"]
BROKEN = [
    "{", "}", "{'content': 'x'}", '{"content": "x",}', "content=x", "<xml/>", '{"content": "x"} {}', '{"a": NaN}x',
    '{"a": "\\ud800"}', '{"a": "\x01"}', "[" * 1200, '{"a":' * 400, "nul", "\\", '"', '{"content": 01}',
]  # fmt: skip


@pytest.mark.parametrize("body", [*NO_OBJECTS, *BROKEN], ids=range(len(NO_OBJECTS + BROKEN)))
def test_a_body_that_is_no_json_object_is_refused_on_every_route(app, body):
    client = app.test_client()
    targets = with_body(app)
    before = stored(app)

    for method, address, _ in targets:
        response = client.open(address, method=method, data=body, content_type="application/json")
        refused(response, 400, "INVALID_REQUEST", "body")

    assert len(targets) >= 6
    assert stored(app) == before


@pytest.mark.parametrize(
    "body", [b'{"content": "\xff"}', b"\xff\xfe{\x00}\x00", b"\x00", b'{"content": "\xed\xa0\x80"}', b'{"\x80": 1}']
)
def test_bytes_that_are_no_utf8_are_refused_on_every_route(app, body):
    client = app.test_client()
    targets = with_body(app)
    before = stored(app)

    for method, address, _ in targets:
        refused(client.open(address, method=method, data=body, content_type="application/json"), 400, "INVALID_REQUEST")

    assert stored(app) == before


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 2000, "-0", "[]", "{}", "true"])
def test_a_wrong_type_is_refused_by_the_fields_name_on_every_route(app, value):
    client = app.test_client()
    before = None
    for method, address, model in with_body(app):
        before = before or stored(app)
        for name, field in model.model_fields.items():
            kind = str(field.annotation)
            if (value == "[]" and "list" in kind) or (value == "{}" and "dict" in kind) or "bool" in kind:
                continue
            body = f'{{"{name}": {value}}}'
            response = client.open(address, method=method, data=body, content_type="application/json")
            error = refused(response, 400, "INVALID_REQUEST")
            assert name in {detail["field"].split(".")[0] for detail in error["details"]}, (address, body, error)
    assert stored(app) == before


def test_an_unknown_field_is_refused_by_name_on_every_route(app):
    client = app.test_client()
    targets = with_body(app)
    before = stored(app)

    for method, address, _ in targets:
        error = refused(client.open(address, method=method, json={"surprise": 1}), 400, "INVALID_REQUEST")
        assert {"field": "surprise", "message": "unknown field"} in error["details"], address

    assert stored(app) == before


def test_a_route_that_takes_no_body_refuses_one_with_fields(app):
    client = app.test_client()
    session_id = create(client)
    before = stored(app)

    error = refused(client.delete(f"/api/session/{session_id}", json={"force": True}), 400, "INVALID_REQUEST", "force")

    assert error["details"] == [{"field": "force", "message": "unknown field"}]
    assert stored(app) == before
    assert client.delete(f"/api/session/{session_id}", json={}).json == {"success": True}


def test_a_missing_field_is_named(client):
    address = f"/api/session/{create(client)}/message"

    for body in ({}, None):
        error = refused(client.post(address, json=body) if body is not None else client.post(address), 400,
                        "INVALID_REQUEST", "content")  # fmt: skip
        assert error["details"][0]["field"] == "content"
    refused(client.post(address, json={"content": ""}), 400, "INVALID_REQUEST", "content")
    refused(client.post(address, json={"content": "x", "when_busy": "shout"}), 400, "INVALID_REQUEST", "when_busy")


def test_every_fault_of_a_body_is_listed_and_none_repeats_what_was_sent(client):
    secret = "sk-very-secret"
    response = client.post("/api/session", json={"title": [secret], secret[:9]: 1, "tools": secret, "model": 1})

    error = refused(response, 400, "INVALID_REQUEST")

    assert {detail["field"] for detail in error["details"]} == {"title", "tools", "model", secret[:9]}
    assert secret not in response.text


def test_the_details_of_very_many_faults_are_few(client):
    error = refused(client.post("/api/session", json={f"f{n}": 1 for n in range(200)}), 400, "INVALID_REQUEST")
    assert len(error["details"]) <= 20


TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
         "application/jsonp", "application/json-patch+json", "", "nonsense"]  # fmt: skip


@pytest.mark.parametrize("media_type", TYPES)
def test_another_media_type_is_refused_with_the_header_to_send_on_every_route(app, media_type):
    client = app.test_client()
    session_id = create(client)
    before = stored(app)
    found = 0
    for method, rule, _ in routes(app):
        if method == "GET":
            continue
        found += 1
        response = client.open(
            path(rule, session_id), method=method, data='{"content": "x"}', headers={"Content-Type": media_type}
        )
        refused(response, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: application/json")
    assert found >= 7
    assert stored(app) == before


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json;x=y"]
)
def test_json_may_be_declared_in_any_of_its_ways(client, media_type):
    assert client.post("/api/session", data="{}", headers={"Content-Type": media_type}).status_code == 200


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
def test_a_body_over_the_limit_is_refused_on_every_route(app, media_type):
    client = app.test_client()
    session_id = create(client)
    before = stored(app)
    body = json.dumps({"content": "x" * HUGE})
    for method, rule, _ in routes(app):
        if method == "GET":
            continue
        response = client.open(path(rule, session_id), method=method, data=body, content_type=media_type)
        refused(response, 413, "PAYLOAD_TOO_LARGE", "OPENCODE_MAX_BODY_BYTES")
    assert stored(app) == before


def test_a_body_over_the_limit_that_does_not_say_its_length_is_refused_too(client):
    response = client.post(
        "/api/session",
        input_stream=io.BytesIO(b'{"title": "' + b"x" * HUGE * 2 + b'"}'),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    refused(response, 413, "PAYLOAD_TOO_LARGE")


def test_a_body_of_exactly_the_limit_passes(client):
    body = json.dumps({"system": ""})
    body = json.dumps({"system": "x" * (HUGE - len(body))})
    assert len(body) == HUGE
    assert client.post("/api/session", data=body, content_type="application/json").status_code == 200


def test_a_wrong_query_is_refused_by_name_on_every_route(app):
    client = app.test_client()
    session_id = create(client)
    found = 0
    for method, rule, contract in routes(app):
        if contract.query is None:
            continue
        for name, schema in contract.query.model_json_schema()["properties"].items():
            if re.search(r"integer|const|enum|pattern", json.dumps(schema)) is None:
                continue
            found += 1
            address = f"{path(rule, session_id)}?{name}=%20not%20this%20"
            response = client.open(
                address, method=method, json={"type": "text", "text": "x"} if method == "POST" else None
            )
            error = refused(response, 400, "INVALID_REQUEST", name)
            assert error["details"][0]["field"] == name
    assert found >= 6


# Faults of our own


def test_a_fault_is_an_internal_error_without_a_trace_or_a_path(make_app, caplog):
    app = make_app()
    client = app.test_client()
    session_id = create(client)
    with database(app) as connection:  # a row that the server never wrote
        connection.execute("UPDATE sessions SET tools = 'not json'")
    connection.close()

    response = client.get(f"/api/session/{session_id}", headers={"X-Request-Id": "look-here"})

    error = refused(response, 500, "INTERNAL_ERROR")
    assert error["request_id"] == "look-here" == response.headers["X-Request-Id"]
    for leak in ("Traceback", ".py", "/work", "opencode/", "JSON", "json", "Error("):
        assert leak not in response.text.replace("application/json", "")
    # The log has all of it.
    assert "Traceback" in caplog.text
    # And the server goes on.
    assert client.post("/api/session").status_code == 200


def test_a_store_that_fails_makes_the_server_unavailable_and_tells_nothing_of_it(make_app):
    app = make_app()
    client = app.test_client()
    session_id = create(client)
    turn(client, session_id)
    least = {"SendMessage": {"content": "x"}, "AnswerPermission": {"response": "once"}, "UpdateSession": {"title": "x"}}
    failed = 0
    with store_out_of_reach(app):
        for method, rule, contract in routes(app):
            without_store = (
                "/health",
                "/tui",
                "/openapi",
                "/docs",
                "/static",
                "/api/render",
                "/metrics",
                "/api/models",
                "/api/ticket",
                "/api/log",
                "/ws",
            )
            if rule == "/" or rule.startswith(without_store):
                continue
            body = None if contract.body is None else least.get(contract.body.__name__, {})
            response = client.open(path(rule, session_id), method=method, json=body)
            refused(response, 503, "UNAVAILABLE")
            failed += 1
            assert int(response.headers["Retry-After"]) > 0
            for leak in ("sqlite", "Operational", "table", "/", "SELECT", "INSERT"):
                assert leak not in response.json["error"]["message"], rule
        assert client.get("/health").status_code == 200
    assert failed > 10
    # When it is back, so is the server, and nothing is missing.
    assert client.get(f"/api/session/{session_id}").json["message_count"] == 2
    seq = client.get(f"/api/session/{session_id}").json["seq"]
    check_turn(turn(client, session_id), after=seq)


def test_a_turn_is_unavailable_while_the_server_stops(make_app):
    app = make_app()
    client = app.test_client()
    session_id = create(client)
    app.extensions["opencode"].sessions.runner.stop(0.0)

    response = client.post(f"/api/session/{session_id}/message", json={"content": "x"})

    refused(response, 503, "UNAVAILABLE", "stopping")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get(f"/api/session/{session_id}").json["message_count"] == 0


# Request ids


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_a_request_id_of_the_callers_is_echoed_on_every_kind_of_answer(client, given):
    headers = {"X-Request-Id": given}
    session_id = create(client)

    for response in (
        client.get("/health", headers=headers),
        client.get("/nope", headers=headers),
        client.put("/health", headers=headers),
        client.post("/api/session", data="{", headers=headers),
        client.options("/api/session", headers=headers),
        client.get("/api/sessions", headers={**headers, "Host": "evil.example"}),
        client.get(f"/api/session/{session_id}/message?until=end", headers=headers),
    ):
        assert response.headers.getlist("X-Request-Id") == [given]


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a/b", "ünï", "a\tb", "<script>", "a,b", "a;b", "٣"])
def test_a_request_id_of_another_form_is_replaced_by_a_new_one(client, given):
    headers = {} if given is None else {"X-Request-Id": given.encode().decode("latin-1")}

    made = {client.get("/health", headers=headers).headers["X-Request-Id"] for _ in range(2)}

    assert len(made) == 2
    assert all(REQUEST_ID.fullmatch(own) and own != given for own in made)


def test_every_code_of_the_contract_exists_and_no_other():
    from opencode.errors import ApiError

    kinds = [ApiError, *ApiError.__subclasses__()]
    assert {kind.code for kind in kinds} == set(STATUSES)
    for kind in kinds:
        assert kind.status in STATUSES[kind.code]
