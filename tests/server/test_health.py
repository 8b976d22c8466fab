"""`/health` and `/health/ready` (API section 7)."""

import threading
from contextlib import closing

import pytest

from opencode.provider.port import Text, Usage
from opencode.provider.scripted import Wait
from opencode.version import VERSION
from tests.server.talk import create, database, refused, say
from tests.sse import check_turn


def test_health_says_that_the_server_lives_since_when_and_which(client):
    response = client.get("/health")

    assert response.status_code == 200
    assert set(response.json) == {"status", "uptime", "version"}
    assert (response.json["status"], response.json["version"]) == ("ok", VERSION)
    assert type(response.json["uptime"]) is int
    assert 0 <= response.json["uptime"] < 60


def test_ready_names_each_check(client):
    response = client.get("/health/ready")

    assert response.status_code == 200
    assert response.json["status"] == "ready"
    assert response.json["checks"].items() >= {"store": "ok", "bus": "ok", "turns": "ok"}.items()
    assert (response.json["model"], response.json["provider"]) == ("scripted/script", "ok")
    assert "error" not in response.json


def not_ready(response, check: str) -> str:
    """What is said of the check that failed, in an answer that is an error as well."""
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert response.json["error"]["code"] == "UNAVAILABLE"
    assert response.json["error"]["status"] == 503
    assert check in response.json["error"]["message"]
    assert response.json["status"] == "unavailable"
    said = response.json["checks"].pop(check)
    assert said != "ok"
    return said


def test_a_store_that_is_out_of_reach_makes_it_unready_but_not_dead(app):
    client = app.test_client()

    with closing(database(app)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        response = client.get("/health/ready")
        said = not_ready(response, "store")
        assert set(response.json["checks"].values()) - {said} == {"ok"}
        assert client.get("/health").status_code == 200

    for leak in ("sqlite", "table", "SELECT", "/"):
        assert leak not in said
    assert client.get("/health/ready").status_code == 200


def test_a_server_that_stops_is_not_ready_while_its_turns_end(make_app):
    going = threading.Event()
    app = make_app([[Text("a "), Wait(going), Text("b"), Usage(1, 1)]])
    client = app.test_client()
    session_id, other = create(client), create(client)
    opened = say(client, session_id)
    seen = opened.until("text")

    # When it is asked to stop, it gives the running turn its time,
    stopping = threading.Thread(target=make_app.stop, args=(app, 30.0))
    stopping.start()
    try:
        while client.get("/health/ready").status_code == 200:
            assert stopping.is_alive()
        assert "stopping" in not_ready(client.get("/health/ready"), "turns")
        # takes no other,
        response = client.post(f"/api/session/{other}/message", json={"content": "x"})
        refused(response, 503, "UNAVAILABLE", "stopping")
        assert int(response.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
    finally:
        going.set()
        stopping.join()
    # and the turn comes to its end.
    seen += opened.rest()
    check_turn(seen, after=0)
    assert seen[-1].data["status"] == "completed"


@pytest.mark.parametrize("address", ["/health", "/health/ready"])
def test_health_can_be_asked_for_by_head_and_by_nothing_else(client, address):
    assert client.head(address).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        refused(client.open(address, method=method), 405, "METHOD_NOT_ALLOWED", "GET")


def test_a_model_without_a_key_fails_nothing(make_app):
    client = make_app(model="anthropic/claude-x").test_client()

    response = client.get("/health/ready")

    assert (response.status_code, response.json["model"]) == (200, "anthropic/claude-x")
    assert "ANTHROPIC_API_KEY" in response.json["provider"]
