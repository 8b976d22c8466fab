"""`/ws` by an independent client: commands, events, and who may do what (API section 6)."""

import threading

import pytest
from websockets.exceptions import InvalidStatus

from opencode.provider.port import Text, ToolCall, Usage
from opencode.provider.scripted import Repeat, Wait
from tests.live.server import until
from tests.server.talk import TIME, create, follow, store_out_of_reach, turn
from tests.ws import Peer, Raw, check_events

TOKENS = ("ann:a-secret", "bob:b-secret", "ann:read:a-reader", "ann:read+write:a-writer", "ann:write:a-blind")


def log_of(client, session_id, token=None):
    """The session's stored events, as messages."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return [
        {"type": event.name, "session_id": session_id, "seq": event.seq, "data": event.data}
        for event in follow(client, session_id, "?after=0&until=end", headers).rest()
    ]


def held():
    go = threading.Event()
    return go, [[Text("one "), Wait(go), Text("two")]]


def test_a_session_is_created_a_turn_is_started_and_its_events_are_those_of_the_stream(app, port):
    with Peer(port) as peer:
        peer.say("create_session", model="gpt-4", tools=["read"], title="t", id="mine")
        created = peer.next()
        assert created.pop("id") == "mine"
        assert created.pop("type") == "session_created"
        assert TIME.fullmatch(created.pop("created_at"))
        session_id = created.pop("session_id")
        assert created == {
            "model": "gpt-4", "resolved_model": "openai/gpt-4", "tools": ["read"], "directory": created["directory"],
            "title": "t",
        } | {"resolved_model": created["resolved_model"]}  # fmt: skip

        session_id = peer.session()
        peer.say("message", session_id=session_id, content="hi", id=2)
        events = peer.to("done")

    assert events == log_of(app.test_client(), session_id)
    assert [event["type"] for event in events] == ["turn_start", "step", "text", "text", "done"]


def test_it_follows_on_across_turns_whoever_starts_them(app, port):
    client = app.test_client()
    session_id = create(client)
    with Peer(port) as peer:
        peer.say("follow", session_id=session_id)
        assert peer.ping_through() == []
        turn(client, session_id)
        events = peer.to("done")
        peer.say("message", session_id=session_id, content="again")
        events += peer.to("done")
        client.patch(f"/api/session/{session_id}", json={"title": "x"})
        events += peer.to("session_updated")

    check_events(events, after=0)
    assert events == log_of(client, session_id)


@pytest.mark.parametrize("after", [0, 3])
def test_following_after_a_number_replays_what_came_since(app, port, after):
    client = app.test_client()
    session_id = create(client)
    turn(client, session_id)

    with Peer(port) as peer:
        peer.say("follow", session_id=session_id, after=after)
        events = peer.to("done")

    assert events == log_of(client, session_id)[after:]


def test_following_during_a_turn_begins_with_its_first_event(app, make_app, serve):
    go, script = held()
    app = make_app(script)
    client, port = app.test_client(), serve(app)
    session_id = create(client)
    with Peer(port) as first, Peer(port) as second:
        first.say("message", session_id=session_id, content="hi")
        first.to("text")
        second.say("follow", session_id=session_id)
        seen = second.to("text")
        go.set()
        seen += second.to("done")
    assert seen == log_of(client, session_id)


def test_many_sessions_on_one_connection_are_each_exact(make_app, serve):
    app = make_app([[Repeat(200, "tick {n} ")]])
    client, port = app.test_client(), serve(app)
    sessions = [create(client) for _ in range(8)]
    with Peer(port) as peer:
        for session_id in sessions:
            peer.say("message", session_id=session_id, content="go")
        seen = []
        for _ in sessions:
            seen += peer.to("done")
    for session_id in sessions:
        own = [event for event in seen if event["session_id"] == session_id]
        check_events(own, after=0)
        assert own == log_of(client, session_id)


def test_after_unfollow_nothing_of_the_session_comes_and_it_can_be_taken_up_again(make_app, serve):
    go, script = held()
    app = make_app(script)
    client, port = app.test_client(), serve(app)
    session_id, other = create(client), create(client)
    with Peer(port) as peer:
        peer.say("message", session_id=session_id, content="hi")
        seen = peer.to("text")
        peer.say("unfollow", session_id=session_id)
        assert peer.ping_through() == []
        go.set()
        peer.say("message", session_id=other, content="hi")
        assert {event["session_id"] for event in peer.to("done")} == {other}
        peer.say("follow", session_id=session_id, after=seen[-1]["seq"])
        seen += peer.to("done", session_id)
        peer.say("unfollow", session_id=session_id)
        peer.say("unfollow", session_id=session_id, id=9)
        peer.refused("NOT_FOUND", id=9)
    assert seen == log_of(client, session_id)


def test_following_what_is_followed_doubles_nothing_unless_a_place_is_named(make_app, serve):
    go, script = held()
    app = make_app(script)
    client, port = app.test_client(), serve(app)
    session_id = create(client)
    with Peer(port) as peer:
        peer.say("message", session_id=session_id, content="hi")
        first = peer.to("text")
        peer.say("follow", session_id=session_id)
        assert peer.ping_through() == []
        go.set()
        first += peer.to("done")
        peer.say("follow", session_id=session_id, after=2)
        assert peer.to("done") == first[2:]
        turn(client, session_id)
        assert peer.to("done") == log_of(client, session_id)[len(first) :]
    check_events(first, after=0)


def test_a_queued_turn_is_followed_to_its_end(make_app, serve):
    go, script = held()
    app = make_app(script)
    client, port = app.test_client(), serve(app)
    session_id = create(client)
    with Peer(port) as first, Peer(port) as second:
        first.say("message", session_id=session_id, content="first")
        first.to("text")
        second.say("message", session_id=session_id, content="no", id="n")
        second.refused("SESSION_BUSY", id="n")
        second.say("message", session_id=session_id, content="second", when_busy="queue")
        seen = second.to("text")
        go.set()
        seen += second.to("done") + second.to("done")
    assert seen == log_of(client, session_id)


def test_an_interrupting_turn_ends_the_one_that_runs(make_app, serve):
    _go, script = held()
    app = make_app([*script, [Text("new")]])
    session_id = create(app.test_client())
    with Peer(serve(app)) as peer:
        peer.say("message", session_id=session_id, content="first")
        seen = peer.to("text")
        peer.say("message", session_id=session_id, content="now", when_busy="interrupt")
        seen += peer.to("done")
        assert seen[-1]["data"]["status"] == "aborted"
        seen += peer.to("done")
        assert seen[-1]["data"]["status"] == "completed"
    check_events(seen, after=0)


def test_a_repeated_key_is_the_same_turn_and_another_content_a_conflict(app, port):
    session_id = create(app.test_client())
    with Peer(port) as peer:
        peer.say("message", session_id=session_id, content="hi", idempotency_key="k")
        first = peer.to("done")
    with Peer(port) as peer:
        peer.say("message", session_id=session_id, content="hi", idempotency_key="k")
        assert peer.to("done") == first
        peer.say("message", session_id=session_id, content="ho", idempotency_key="k", id=1)
        peer.refused("IDEMPOTENCY_CONFLICT", id=1)
    assert log_of(app.test_client(), session_id) == first


def test_a_permission_is_answered(make_app, serve):
    call = ToolCall("call_1", "bash", {"command": "echo hi"})
    app = make_app([[call, Usage(1, 1)], [Text("b")]])
    session_id = create(app.test_client(), permission={"bash": "ask"})
    with Peer(serve(app)) as peer:
        peer.say("message", session_id=session_id, content="hi")
        asked = peer.to("permission_request")[-1]["data"]["permission_id"]
        peer.say("permission", session_id=session_id, permission_id="per_other", response="once", id=1)
        peer.refused("NOT_FOUND", id=1)
        peer.say("permission", session_id=session_id, permission_id=asked, response="once")
        events = peer.to("done")
        peer.say("permission", session_id=session_id, permission_id=asked, response="reject", id=2)
        peer.refused("PERMISSION_ANSWERED", id=2)
    assert [event["type"] for event in events if event["type"] != "tool_output"] == [
        "permission_reply", "tool_result", "step", "text", "done",
    ]  # fmt: skip


def test_an_abort_ends_the_turn(make_app, serve):
    _go, script = held()
    app = make_app(script)
    session_id = create(app.test_client())
    with Peer(serve(app)) as peer:
        peer.say("message", session_id=session_id, content="hi")
        peer.to("text")
        peer.say("abort", session_id=session_id, turn_id="trn_other")
        assert peer.ping_through() == []
        peer.say("abort", session_id=session_id)
        assert peer.to("done")[-1]["data"]["status"] == "aborted"
        peer.say("abort", session_id=session_id)
        assert peer.ping_through() == []


def test_a_deleted_session_says_so_last_and_the_connection_goes_on(app, port):
    client = app.test_client()
    session_id = create(client)
    with Peer(port) as peer:
        peer.say("message", session_id=session_id, content="hi")
        peer.to("done")
        client.delete(f"/api/session/{session_id}")
        told = {"type": "session_deleted", "session_id": session_id, "data": {"session_id": session_id}}
        assert peer.next() == told
        peer.say("follow", session_id=session_id, id=1)
        peer.refused("SESSION_NOT_FOUND", id=1)


def test_a_number_beyond_the_log_is_told_and_followed_from_its_end(app, port):
    client = app.test_client()
    session_id = create(client)
    end = turn(client, session_id)[-1].seq
    with Peer(port) as peer:
        peer.say("follow", session_id=session_id, after=end + 1000)
        assert peer.next() == {"type": "resync", "session_id": session_id, "data": {"seq": end}}
        turn(client, session_id)
        check_events(peer.to("done"), after=end)


# What is refused, message by message


MALFORMED = [
    ("{", "", "JSON"),
    ("[]", "", "object"),
    ("3", "", "object"),
    ("{}", "type", "must be one of"),
    ('{"type": 1}', "type", "must be one of"),
    ('{"type": "nope"}', "type", "must be one of"),
    ('{"type": "ping", "surprise": 1}', "surprise", "unknown field"),
    ('{"type": "create_session", "tools": "bash"}', "tools", "list"),
    ('{"type": "create_session", "tools": ["rm"]}', "tools", "rm"),
    ('{"type": "create_session", "model": "nope/x"}', "", "nope"),
    ('{"type": "message", "session_id": "ses_1"}', "content", "required"),
    ('{"type": "message", "session_id": "ses_1", "content": ""}', "content", "at least 1"),
    ('{"type": "message", "session_id": "ses_1", "content": "x", "when_busy": "wait"}', "when_busy", "reject"),
    ('{"type": "message", "session_id": "ses_1", "content": "x", "idempotency_key": ""}', "idempotency_key", "1"),
    ('{"type": "follow", "session_id": "ses_1", "after": -1}', "after", "greater"),
    ('{"type": "follow", "session_id": "ses_1", "after": "1"}', "after", "integer"),
    ('{"type": "follow", "session_id": "ses_1", "after": true}', "after", "integer"),
    ('{"type": "follow", "session_id": "ses_1", "after": 99999999999999999999999}', "after", "integer"),
    ('{"type": "permission", "session_id": "s", "permission_id": "p", "response": "yes"}', "response", "once"),
    ("[" * 100_000, "", "JSON"),
]


def test_what_is_malformed_is_told_by_name_and_the_connection_goes_on(port):
    with Peer(port) as peer:
        for text, field, word in MALFORMED:
            peer.send(text)
            error = peer.refused("INVALID_REQUEST")
            assert error["status"] == 400
            assert word in error["message"], (text, error)
            if field:
                assert field in [detail["field"] for detail in error["details"]], (text, error)
        assert peer.ping_through() == []


def test_the_clients_id_comes_back_as_far_as_it_is_one(port):
    with Peer(port) as peer:
        for own in ("a", "", 7, -1):
            peer.say("nope", id=own)
            peer.refused("INVALID_REQUEST", id=own)
            peer.say("ping", id=own)
            assert peer.next() == {"type": "pong", "id": own}
        for wrong in (True, 1.5, [1], "x" * 201):
            peer.say("ping", id=wrong)
            assert "id" in {detail["field"].partition(".")[0] for detail in peer.refused("INVALID_REQUEST")["details"]}


@pytest.mark.parametrize("session_id", ["ses_missing", "anns", 'x","seq":1,"y":"'])
def test_a_session_of_another_owner_is_one_that_does_not_exist(make_app, serve, session_id):
    app = make_app(auth_tokens=TOKENS)
    if session_id == "anns":
        session_id = create(app.test_client(), headers={"Authorization": "Bearer a-secret"})
    with Peer(serve(app), token="b-secret") as peer:
        for kind, fields in {
            "message": {"content": "x"}, "follow": {}, "abort": {}, "permission": {"permission_id": "p", "response": "once"},
        }.items():  # fmt: skip
            peer.say(kind, session_id=session_id, **fields)
            error = peer.refused("SESSION_NOT_FOUND")
            assert error["message"] == f"Session not found: {session_id}"


def test_a_token_does_over_the_connection_what_its_scopes_allow(make_app, serve):
    app = make_app(auth_tokens=TOKENS)
    port = serve(app)
    with Peer(port, token="a-writer") as writer, Peer(port, token="a-reader") as reader:
        session_id = writer.session()
        reader.say("follow", session_id=session_id, after=0)
        for kind, fields, scope in (
            ("create_session", {}, "write"),
            ("message", {"session_id": session_id, "content": "x"}, "write"),
            ("abort", {"session_id": session_id}, "write"),
            ("permission", {"session_id": session_id, "permission_id": "p", "response": "once"}, "approve"),
        ):
            reader.say(kind, **fields)
            assert repr(scope) in reader.refused("FORBIDDEN")["message"]
        writer.say("permission", session_id=session_id, permission_id="p", response="once")
        assert "approve" in writer.refused("FORBIDDEN")["message"]
        writer.say("message", session_id=session_id, content="x")
        assert reader.to("done") == writer.to("done")


def test_a_connection_ends_with_the_sign_in_that_opened_it(make_app, serve):
    app = make_app(auth_tokens=TOKENS)
    port = serve(app)
    own = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
    client = app.test_client(use_cookies=False)
    cookies = [
        client.post("/api/login", json={"token": "a-secret"}, headers=own).headers["Set-Cookie"].partition(";")[0]
        for _ in range(2)
    ]
    session_id = create(client, headers={"Authorization": "Bearer a-secret"})

    with (
        Peer(port, origin=own["Origin"], cookie=cookies[0]) as left,
        Peer(port, origin=own["Origin"], cookie=cookies[1]) as stays,
    ):
        assert left.ping_through() == stays.ping_through() == []
        assert client.post("/api/logout", headers={**own, "Cookie": cookies[0]}).status_code == 200
        left.say("message", session_id=session_id, content="run", id=1)
        left.refused("UNAUTHORIZED", id=1)
        assert left.rest() == []
        assert left.closed[0] == 1008
        assert log_of(app.test_client(), session_id, token="a-secret") == []
        stays.say("message", session_id=session_id, content="run")
        assert stays.to("done")


def test_a_store_out_of_reach_is_told_and_the_connection_goes_on(app, port):
    session_id = create(app.test_client())
    with Peer(port) as peer:
        with store_out_of_reach(app):
            peer.say("message", session_id=session_id, content="x", id=1)
            error = peer.refused("UNAVAILABLE", id=1)
            assert error["status"] == 503
        peer.say("message", session_id=session_id, content="x")
        check_events(peer.to("done"), after=0)


def test_a_store_that_fails_under_a_turn_is_told_without_a_number_and_the_rest_follows_later(make_app, serve):
    go, script = held()
    app = make_app(script)
    session_id = create(app.test_client())
    with Peer(serve(app)) as peer:
        peer.say("message", session_id=session_id, content="x")
        seen = peer.to("text")
        with store_out_of_reach(app):
            go.set()
            told = peer.to("error")
            assert told[0].keys() == {"type", "session_id", "data"}
            assert told[0]["data"]["code"] == "STORE_UNAVAILABLE"
            assert peer.ping_through() == []
        client = app.test_client()
        until(lambda: client.get(f"/api/session/{session_id}").json["status"] == "idle", 60, "the end to be stored")
        peer.say("follow", session_id=session_id, after=seen[-1]["seq"])
        seen += peer.to("done")
    check_events(seen, after=0)
    assert [event["data"].get("code") for event in seen[-2:]] == ["STORE_UNAVAILABLE", None]


def test_what_is_left_or_closed_leaves_no_thread_behind(app, port):
    """Long before the next beat of an idle log."""
    session_id = create(app.test_client())

    def followers():
        return [thread for thread in threading.enumerate() if thread.name == "ws-follower"]

    with Peer(port) as peer:
        peer.say("follow", session_id=session_id)
        assert peer.ping_through() == []
        assert len(followers()) == 1
        peer.say("unfollow", session_id=session_id)
        until(lambda: not followers(), 10, "the follower to leave")
        peer.say("follow", session_id=session_id)
        assert peer.ping_through() == []
    until(lambda: not followers(), 10, "the follower to end")


# Limits


def test_messages_count_as_requests_of_address_and_owner(make_app, serve):
    app = make_app(rate_limit=True, rate_limit_max_requests=5, auth_tokens=TOKENS)
    port = serve(app)
    with Peer(port, token="a-secret") as peer:
        for _ in range(5):
            assert peer.ping_through() == []
        for _ in range(2):
            peer.say("abort", session_id="ses_1")
            peer.refused("SESSION_NOT_FOUND")
        for malformed in ('{"type": "nope"}', "{"):
            peer.send(malformed)
            peer.refused("INVALID_REQUEST")
        peer.say("create_session", id=1)
        assert "OPENCODE_RATE_LIMIT_MAX_REQUESTS" in peer.refused("RATE_LIMIT_EXCEEDED", id=1)["message"]
        # To come back costs nothing.
        peer.say("follow", session_id="ses_1", after=0)
        peer.refused("SESSION_NOT_FOUND")
    elsewhere = {"REMOTE_ADDR": "10.0.0.1"}
    for token, status in (("a-secret", 429), ("b-secret", 200)):
        headers = {"Authorization": f"Bearer {token}"}
        answer = app.test_client().get("/api/sessions", headers=headers, environ_base=elsewhere)
        assert answer.status_code == status
    assert app.test_client().get("/api/sessions", headers={"Authorization": "Bearer b-secret"}).status_code == 429


def test_sessions_and_turns_are_capped_as_everywhere(make_app, serve):
    go, script = held()
    app = make_app(script, rate_limit=True, rate_limit_max_sessions=2, max_turns=1)
    with Peer(serve(app)) as peer:
        first, second = peer.session(), peer.session()
        peer.say("create_session")
        assert "OPENCODE_RATE_LIMIT_MAX_SESSIONS" in peer.refused("RATE_LIMIT_EXCEEDED")["message"]
        peer.say("message", session_id=first, content="x")
        peer.to("text")
        peer.say("message", session_id=second, content="x")
        assert "OPENCODE_MAX_TURNS" in peer.refused("RATE_LIMIT_EXCEEDED")["message"]
        go.set()
        peer.to("done")
    assert app.test_client().post("/api/session", json={}).status_code == 429


def test_a_connection_counts_as_the_streams_that_it_follows_and_as_one_where_it_follows_none(make_app, serve):
    app = make_app(rate_limit=True, max_streams=2)
    client, port = app.test_client(), serve(app)
    sessions = [create(client) for _ in range(3)]
    with Peer(port) as peer:
        for session_id in sessions[:2]:
            peer.say("follow", session_id=session_id)
        peer.say("follow", session_id=sessions[2], id=1)
        assert "OPENCODE_MAX_STREAMS" in peer.refused("RATE_LIMIT_EXCEEDED", id=1)["message"]
        with pytest.raises(InvalidStatus) as refused:
            Peer(port)
        assert refused.value.response.status_code == 429
        # A place that is left is free at once, for the same connection and for others.
        for session_id in sessions[:2]:
            peer.say("unfollow", session_id=session_id)
        assert peer.ping_through() == []
        with Peer(port) as other:
            assert other.ping_through() == []
            with pytest.raises(InvalidStatus):
                Peer(port)
            peer.say("follow", session_id=sessions[1])
            peer.say("follow", session_id=sessions[2])
            peer.refused("RATE_LIMIT_EXCEEDED")
        # So is that of a session which is deleted, and with the connection all of them.
        until(lambda: len(app.extensions["opencode-ws"]) == 1, 60, "the other conversation to end")
        peer.say("follow", session_id=sessions[0])
        assert peer.ping_through() == []
        client.delete(f"/api/session/{sessions[1]}")
        peer.to("session_deleted")
        peer.say("follow", session_id=sessions[2])
        assert peer.ping_through() == []
    until(lambda: len(app.extensions["opencode-ws"]) == 0, 60, "the conversation to end")
    with Peer(port) as one, Peer(port) as two:
        assert one.ping_through() == two.ping_through() == []


# Who is let in, and as what


def refusal(port, **options):
    raw = Raw(port, **options)
    try:
        return raw.status, raw.headers, raw.body()["error"]
    finally:
        raw.close()


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({}, 401, "token"),
        ({"Authorization": "Bearer nope"}, 401, "Unknown"),
        ({"Authorization": "Bearer a-blind"}, 403, "read"),
        ({"Authorization": "Bearer a-secret", "Origin": "https://evil.example"}, 403, "Origin"),
        ({"Authorization": "Bearer a-secret", "Origin": "null"}, 403, "Origin"),
        ({"Authorization": "Bearer a-secret", "Sec-Fetch-Site": "cross-site"}, 403, "another site"),
        ({"Authorization": "Bearer a-secret", "Host": "evil.example"}, 403, "Host"),
    ],
)
def test_who_may_not_come_in_is_refused_before_the_upgrade(make_app, serve, headers, status, word):
    app = make_app(auth_tokens=TOKENS, allowed_hosts=("good.example",))

    found, answered, error = refusal(serve(app), headers=headers)

    assert found == error["status"] == status
    assert word in error["message"]
    assert "sec-websocket-accept" not in answered


def test_with_auth_off_foreign_hosts_origins_and_proxies_are_refused_before_the_upgrade(port):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"X-Forwarded-For": "10.0.0.1"}):
        assert refusal(port, headers=headers)[0] == 403
    with Raw(port, headers={"Origin": f"http://127.0.0.1:{port}"}) as own:
        own.say("ping")
        assert own.message() == {"type": "pong"}


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        ({"without": ("Upgrade", "Connection")}, 426, "WebSocket client"),
        ({"headers": {"Connection": "keep-alive"}}, 426, "Connection: Upgrade"),
        ({"headers": {"Upgrade": "h2c"}}, 426, "Upgrade: websocket"),
        ({"version": "1.0"}, 426, "HTTP/1.1"),
        ({"headers": {"Sec-WebSocket-Version": "8"}}, 426, "13"),
        ({"without": ("Sec-WebSocket-Version",)}, 426, "13"),
        ({"without": ("Sec-WebSocket-Key",)}, 400, "Sec-WebSocket-Key"),
        ({"headers": {"Sec-WebSocket-Key": "short"}}, 400, "16 bytes"),
        ({"headers": {"Sec-WebSocket-Key": "$" * 24}}, 400, "16 bytes"),
    ],
)
def test_a_request_that_is_no_upgrade_is_told_what_it_lacks(port, options, status, word):
    found, headers, error = refusal(port, **options)

    assert (found, error["code"]) == (status, "INVALID_REQUEST")
    assert word in error["message"]
    assert (status == 426) == (headers.get("upgrade") == "websocket")
    if "13" in word:
        assert headers["sec-websocket-version"] == "13"


def test_the_upgrade_is_an_answer_like_all_others(port):
    key = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3
    offered = "permessage-deflate; client_max_window_bits"
    with Raw(
        port, headers={"Sec-WebSocket-Key": key, "X-Request-Id": "mine", "Sec-WebSocket-Extensions": offered}
    ) as raw:
        assert raw.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert (raw.headers["upgrade"], raw.headers["connection"]) == ("websocket", "Upgrade")
        assert raw.headers["x-request-id"] == "mine"
        assert "sec-websocket-extensions" not in raw.headers


def test_a_server_that_lends_no_socket_says_so(client):
    headers = {
        "Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    answer = client.get("/ws", headers=headers)

    assert answer.status_code == 500
    assert "opencode serve" in answer.json["error"]["message"]


def test_a_stop_sends_what_is_stored_says_why_and_lets_nobody_in(make_app, serve):
    _go, script = held()
    app = make_app(script)
    client, port = app.test_client(), serve(app)
    session_id = create(client)
    with Peer(port) as idle, Peer(port) as peer:
        peer.say("message", session_id=session_id, content="x")
        seen = peer.to("text")
        stop = threading.Thread(target=make_app.stop, args=(app,))
        stop.start()
        seen += peer.rest()
        assert idle.rest() == []
        for own in (peer, idle):
            assert own.closed[0] == 1012
            assert "connect again" in own.closed[1]
    stop.join()
    check_events(seen, after=0)
    assert refusal(port)[0] == 503
