"""What the server writes about its work (API section 1: the request's id in every line)."""

import json
import logging

import pytest

from opencode.provider.port import Text
from opencode.provider.scripted import Fail
from opencode.server import logs
from tests.server.talk import create, database, say, turn

TOKEN = "anna-very-secret"


@pytest.fixture
def written(capsys, make_app):
    """Sets the log up for an app with these settings; gives the app and a function that reads what was written."""
    logger = logging.getLogger("opencode")
    before = logger.handlers[:], logger.level, logger.propagate
    text = []

    def lines() -> list[str]:
        text.append(capsys.readouterr().err)
        return "".join(text).splitlines()

    def make(script=None, **settings):
        app = make_app(script, **settings)
        logs.set_up(app.extensions["opencode"].settings)
        return app, lines

    yield make
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def test_each_request_is_one_line_with_its_id(written):
    app, lines = written()

    app.test_client().get("/api/sessions?q=private", headers={"X-Request-Id": "req-1"})
    app.test_client().get("/nope", headers={"X-Request-Id": "req-2"})

    first, second = lines()
    assert "GET /api/sessions 200" in first
    assert first.endswith("[req-1]")
    assert "GET /nope 404" in second
    assert second.endswith("[req-2]")
    assert "private" not in first


def test_as_json_each_line_is_an_object_with_the_same_parts(written):
    app, lines = written(log_format="json")

    app.test_client().get("/api/sessions", headers={"X-Request-Id": "req-1"})

    (line,) = [json.loads(line) for line in lines()]
    assert set(line) >= {"time", "level", "logger", "message", "request_id"}
    assert (line["level"], line["request_id"]) == ("info", "req-1")
    assert "GET /api/sessions 200" in line["message"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_fault_is_logged_with_its_trace_under_the_requests_id(written, log_format):
    app, lines = written(log_format=log_format)
    session_id = create(app.test_client())
    with database(app) as connection:
        connection.execute("UPDATE sessions SET tools = 'not json'")
    connection.close()

    app.test_client().get(f"/api/session/{session_id}", headers={"X-Request-Id": "req-fault"})

    text = "\n".join(lines())
    assert "Traceback" in text
    if log_format == "json":
        entry = next(json.loads(line) for line in lines() if "trace" in json.loads(line))
        assert entry["request_id"] == "req-fault"
    else:
        assert "request failed [req-fault]" in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_token_is_ever_written(written, log_format):
    app, lines = written(log_format=log_format, log_level="debug", auth_tokens=(f"anna:{TOKEN}",))
    client = app.test_client()
    headers = {"Authorization": f"Bearer {TOKEN}"}

    session_id = create(client, headers)
    client.get(f"/api/session/{session_id}", headers=headers)
    client.get(f"/api/sessions?ticket={TOKEN}&token={TOKEN}")
    client.get("/api/sessions", headers={"Authorization": f"Bearer {TOKEN}x"})
    client.get("/api/sessions", headers={"Authorization": f"Basic {TOKEN}"})
    client.post("/api/session", data=f'{{"{TOKEN}": 1', headers={**headers, "Content-Type": "application/json"})

    assert len(lines()) >= 6
    assert TOKEN not in "\n".join(lines())


@pytest.mark.parametrize("address", ["/nope%0aFAKE", "/nope%0d%0aFAKE", "/nope%1b%5b2J", "/%e2%80%a8x", "/%00"])
def test_a_path_cannot_begin_a_line_of_its_own(written, address):
    app, lines = written()

    app.test_client().get(address)

    assert len(lines()) == 1
    assert lines()[0].isprintable()


def test_a_level_hides_what_is_below_it(written):
    app, lines = written(log_level="warning")

    app.test_client().get("/api/sessions")

    assert lines() == []


def test_setting_up_twice_writes_each_line_once(written):
    app, lines = written()
    logs.set_up(app.extensions["opencode"].settings)

    app.test_client().get("/health")

    assert len(lines()) == 1


def test_as_json_a_request_has_its_ids_owner_and_duration(written):
    app, lines = written(log_format="json")
    client = app.test_client()
    session_id = create(client)

    client.get(f"/api/session/{session_id}", headers={"X-Request-Id": "req-1"})

    line = json.loads(lines()[-1])
    assert (line["session_id"], line["owner"], line["request_id"]) == (session_id, "local", "req-1")
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/session/<session_id>", 200)
    assert line["duration"] > 0


def test_a_stream_is_logged_when_it_ends_with_what_it_sent(written):
    app, lines = written(log_format="json")
    client = app.test_client()
    session_id = create(client)

    stream = say(client, session_id)
    assert len(lines()) == 1
    events = stream.rest()

    line = json.loads(lines()[1])
    assert (line["session_id"], line["turn_id"], line["events"]) == (session_id, events[0].data["turn_id"], len(events))
    assert line["bytes"] > 100
    assert f"{len(events)} events {line['bytes']} bytes" in line["message"]


def test_what_a_turn_logs_says_which_turn(written):
    app, lines = written([[Text("a"), Fail(RuntimeError("no error of a provider"))]], log_format="json")
    client = app.test_client()
    session_id = create(client)

    events = turn(client, session_id)

    line = next(json.loads(line) for line in lines() if "trace" in json.loads(line))
    assert (line["session_id"], line["turn_id"], line["owner"]) == (session_id, events[0].data["turn_id"], "local")
    assert "Traceback" in line["trace"]


def _fail(logger, message):
    logger.error("failed", exc_info=RuntimeError(message))


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("message", ["a\nFAKE", "a\r\nFAKE", "a\x1b[2Jb", "a\u2028b", "a\x00b"])
def test_nothing_that_is_logged_can_begin_a_line_of_its_own(written, log_format, message):
    _, lines = written(log_format=log_format)
    logger = logging.getLogger("opencode.test")

    logger.warning("said: %s", message)
    _fail(logger, message)

    assert all(line.isprintable() for line in lines())
    assert not [line for line in lines() if line.startswith("FAKE")]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_settings_that_are_secret_are_hidden_wherever_they_turn_up(written, log_format):
    _, lines = written(log_format=log_format, auth_tokens=(f"anna:read:{TOKEN}",), anthropic_api_key="key-of-anthropic")
    logger = logging.getLogger("opencode.test")

    logger.warning("sent %s and key-of-anthropic to /x?ticket=t1ck3t&a=b with Authorization: Bearer b34rer", TOKEN)
    _fail(logger, f"{TOKEN} is wrong, sk-ant-4711 too")

    text = "\n".join(lines())
    for secret in (TOKEN, "key-of-anthropic", "t1ck3t", "b34rer", "ant-4711"):
        assert secret not in text
    assert "a=b" in text
