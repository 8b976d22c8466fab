"""Streams read by libraries that nobody here wrote: what they see is what the log has."""

import contextlib
import json

import httpx
import pytest
import requests
import sseclient
from httpx_sse import connect_sse

from opencode.client import Client
from tests.client import event_source
from tests.client.peer import CuttingProxy
from tests.live.server import Server

pytestmark = pytest.mark.live

LIMIT_S = 60.0
#: What a careless reader would split a line at, and what needs several bytes.
AWKWARD = "one\u2028two\u2029\u0085three\r\nfour \U0001f600"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("readers")
    script = home / "script.json"
    turns = [
        [{"reasoning": "Hm."}, {"text": AWKWARD}, {"tool": "bash", "params": {"command": "echo hi"}}],
        [{"text": "end"}],
    ]
    script.write_text(json.dumps({"loop": True, "turns": turns}))
    variables = {"OPENCODE_SCRIPT": script, "OPENCODE_MODEL": "scripted/script", "OPENCODE_RATE_LIMIT": "off"}
    with Server.serve(home, **variables) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


def read_by_httpx_sse(method, url, body, headers):
    with httpx.Client(timeout=LIMIT_S, trust_env=False) as http, connect_sse(http, method, url, json=body, headers=headers) as source:  # fmt: skip
        assert source.response.status_code == 200
        # It makes an event, without data, of what the standard makes none of: the stream's head, and heartbeats.
        yield from ((event.id, event.event, event.data) for event in source.iter_sse() if event.data)


def read_by_sseclient(method, url, body, headers):
    accept = {"Accept": "text/event-stream", **headers}
    with (
        requests.Session() as session,
        session.request(method, url, json=body, headers=accept, stream=True, timeout=LIMIT_S) as response,
        contextlib.closing(sseclient.SSEClient(response)) as source,
    ):
        assert response.status_code == 200
        yield from ((event.id, event.event, event.data) for event in source.events())


READERS = pytest.mark.parametrize(
    "read", [read_by_httpx_sse, read_by_sseclient, event_source.read], ids=["httpx-sse", "sseclient-py", "eventsource"]
)


def log(client, session, *, after=0):
    return [(event.seq, event.name, event.data) for event in client.replay(session, after=after)]


def as_log(events):
    return [(int(own_id), name, json.loads(data)) for own_id, name, data in events]


@READERS
def test_a_turn_as_it_is_started(read, client):
    session = client.create_session().session_id

    seen = as_log(read("POST", f"{client.url}/api/session/{session}/message", {"content": "hi"}, {}))

    assert seen == log(client, session)
    assert [data["content"] for _, name, data in seen if name == "text"] == [AWKWARD, "end"]
    assert seen[-1][1] == "done"


@READERS
def test_a_session_that_is_followed_and_taken_up_again(read, client):
    session = client.create_session().session_id
    client.ask(session, "hi")
    client.start_turn(session, "and again")
    url = f"{client.url}/api/session/{session}/message"

    with contextlib.closing(read("GET", f"{url}?after=0", None, {})) as events:
        first = as_log([next(events) for _ in range(4)])
    with contextlib.closing(read("GET", url, None, {"Last-Event-ID": "4"})) as events:
        rest = []
        while [name for _, name, _ in rest].count("done") < 2:
            rest += as_log([next(events)])

    assert first + rest == log(client, session)


def test_an_event_source_whose_connections_are_cut_comes_back_by_itself_and_gets_each_event_once(client, server):
    session = client.create_session().session_id
    for _ in range(3):
        client.ask(session, "hi")

    # Within the head of the answer; before the first event; and twice within events.
    with (
        CuttingProxy(server.port, [40, 500, 1500, 2500]) as proxy,
        contextlib.closing(
            event_source.read("GET", f"{proxy.url}/api/session/{session}/message?after=0", None, {})
        ) as events,
    ):
        seen = []
        while [name for _, name, _ in seen].count("done") < 3:
            seen += as_log([next(events)])
        assert proxy.count >= 4

    assert seen == log(client, session)
