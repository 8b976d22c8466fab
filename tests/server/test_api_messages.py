"""Turns over HTTP: starting, following, aborting (API sections 3 and 4)."""

import threading

import pytest

from opencode.errors import ProviderError
from opencode.provider.port import Finish, Reasoning, Text, ToolCall, Usage
from opencode.provider.scripted import Fail, Pause, Wait
from tests.server.talk import TIME, create, follow, refused, say, stored, stream, turn
from tests.sse import Malformed, check_log, check_turn


@pytest.fixture
def going():
    """What a scripted turn waits for; set at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module")
def lasting(make_lasting_app):
    """A client of an app that the tests share; each makes sessions of its own."""
    return make_lasting_app().test_client()


@pytest.fixture
def held(make_app, going):
    """A client whose model says "on it, " and then waits for `going`."""
    return make_app([[Text("on it, "), Wait(going), Text("done."), Usage(5, 4, 1)]]).test_client()


# The stream of a turn


def test_a_turn_streams_from_its_start_to_its_one_done(lasting):
    session_id = create(lasting)

    opened = say(lasting, session_id, "hello 🎈\n\u2028there")
    events = opened.rest()

    assert opened.first_id == "0"
    check_turn(events, after=0)
    assert [event.name for event in events] == ["turn_start", "step", "text", "text", "done"]
    start, step, first, second, done = (event.data for event in events)
    assert start["content"] == "hello 🎈\n\u2028there"
    assert start["model"] == "scripted/script"
    assert start["message_id"].startswith("msg_")
    assert start["turn_id"].startswith("trn_")
    assert {name: step[name] for name in ("step", "attempt", "discards_from")} == {
        "step": 1, "attempt": 1, "discards_from": None,
    }  # fmt: skip
    assert (first["content"], second["content"]) == ("Hello, ", "world.")
    assert done["status"] == "completed"
    assert done["tokens"] == 10
    assert done["usage"] == {"input": 7, "output": 3, "cached": 2}
    assert isinstance(done["duration"], int)
    assert done["duration"] >= 0


def test_the_ids_of_a_session_go_on_from_turn_to_turn(lasting):
    session_id = create(lasting)
    first = turn(lasting, session_id)

    opened = say(lasting, session_id, "again")

    assert opened.first_id == str(first[-1].seq)
    check_turn(opened.rest(), after=first[-1].seq)


def test_the_bytes_of_a_stream_are_one_id_one_event_and_one_data_line_each(lasting):
    session_id = create(lasting)

    response = lasting.post(f"/api/session/{session_id}/message", json={"content": "hi"})
    head, *frames = response.data.decode().removesuffix("\n\n").split("\n\n")

    assert head == "retry: 2000\nid: 0"
    for number, frame in enumerate(frames, 1):
        own_id, name, data = frame.split("\n")
        assert own_id == f"id: {number}"
        assert name.startswith("event: ")
        assert data.startswith('data: {"')


def test_a_turn_with_reasoning_and_tools_shows_every_event_in_order(make_app):
    call = ToolCall("call_1", "bash", {"command": "echo one; echo two"})
    client = make_app(
        [[Reasoning("hm"), Text("Let me see. "), call, Usage(10, 5)], [Text("There."), Usage(20, 5)]]
    ).test_client()

    events = turn(client, create(client))

    check_turn(events, after=0)
    names = [event.name for event in events if event.name != "tool_output"]
    assert names == ["turn_start", "step", "reasoning", "text", "tool_call", "tool_result", "step", "text", "done"]
    called, result = (next(e.data for e in events if e.name == name) for name in ("tool_call", "tool_result"))
    output = [event.data for event in events if event.name == "tool_output"]
    assert (called["tool"], called["params"]) == ("bash", {"command": "echo one; echo two"})
    assert "".join(own["content"] for own in output) == "one\ntwo\n"
    assert (result["tool"], result["is_error"]) == ("bash", False)
    assert "one\ntwo" in result["result"]
    assert {called["call_id"], result["call_id"], *(own["call_id"] for own in output)} == {called["call_id"]}
    steps = [event.data["step"] for event in events if event.name == "step"]
    assert steps == [1, 2]
    assert events[-1].data["usage"] == {"input": 30, "output": 10, "cached": 0}


def test_a_tool_that_fails_is_a_result_with_an_error_and_no_end_of_the_turn(make_app):
    calls = [
        ToolCall("call_1", "read", {"path": "../../etc/passwd"}),
        ToolCall("call_2", "teleport", {}),
        ToolCall("call_3", "read", {}, malformed='{"path": '),
        ToolCall("call_4", "grep", {"pattern": "x"}),
    ]
    client = make_app([[*calls, Usage(1, 1)], [Text("Sorry."), Usage(1, 1)]]).test_client()

    events = turn(client, create(client))

    check_turn(events, after=0)
    results = [event.data for event in events if event.name == "tool_result"]
    assert [result["tool"] for result in results] == ["read", "teleport", "read", "grep"]
    assert all(result["is_error"] for result in results)
    assert events[-1].data["status"] == "completed"


def test_an_answer_that_breaks_off_is_asked_for_again_and_says_what_is_void(make_app):
    broken = Fail(ProviderError("cut", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=0.0))
    client = make_app([[Text("lost "), broken, Text("found"), Usage(1, 1)]]).test_client()
    session_id = create(client)

    events = turn(client, session_id)

    check_turn(events, after=0)
    first, second = (event for event in events if event.name == "step")
    assert (first.data["attempt"], first.data["discards_from"]) == (1, None)
    assert second.data["attempt"] == 2
    void_from = second.data["discards_from"]
    kept = [
        event.data["content"] for event in events if event.name == "text" and not void_from <= event.seq < second.seq
    ]
    message = client.get(f"/api/session/{session_id}").json["messages"][1]
    assert message["content"] == "".join(kept) == "lost found"
    assert [part["content"] for part in message["parts"] if part["status"] == "interrupted"] == ["lost "]


@pytest.mark.parametrize(
    "code",
    ["PROVIDER_AUTH", "PROVIDER_RATE_LIMIT", "PROVIDER_UNAVAILABLE", "PROVIDER_ERROR", "CONTEXT_OVERFLOW"],
)
def test_a_provider_that_fails_ends_the_turn_with_an_error_and_done(make_app, code):
    client = make_app([[Text("I "), Fail(ProviderError("it is broken", code=code), times=None)]]).test_client()
    session_id = create(client)

    events = turn(client, session_id)

    check_turn(events, after=0)
    error, done = events[-2:]
    assert (error.name, error.data["code"], error.data["message"]) == ("error", code, "it is broken")
    assert done.data["status"] == "failed"
    turn_id = done.data["turn_id"]
    answer = client.get(f"/api/session/{session_id}/turn/{turn_id}").json
    assert (answer["status"], answer["error"], answer["message"]["content"]) == ("failed", code, "I ")
    # And the session goes on.
    assert client.get(f"/api/session/{session_id}").json["status"] == "idle"
    check_turn(turn(client, session_id), after=done.seq)


@pytest.mark.parametrize(
    ("model", "variable"), [("claude-3-sonnet", "ANTHROPIC_API_KEY"), ("openai/gpt-x", "OPENAI_API_KEY")]
)
def test_a_model_without_a_key_ends_with_an_error_that_names_the_variable(lasting, model, variable):
    session_id = create(lasting, model=model)

    events = turn(lasting, session_id)

    check_turn(events, after=0)
    assert [event.name for event in events] == ["turn_start", "error", "done"]
    assert events[1].data["code"] == "PROVIDER_NOT_CONFIGURED"
    assert variable in events[1].data["message"]
    assert events[2].data["status"] == "failed"


@pytest.mark.parametrize(
    ("settings", "script"),
    [
        ({"max_steps": 2}, [[ToolCall("call_1", "bash", {"command": "true"}), Usage(1, 1)]]),
        ({"max_tokens": 10}, [[ToolCall("call_1", "bash", {"command": "true"}), Usage(9, 9)]]),
        ({"turn_timeout_s": 0.2}, [[Text("slow"), Pause(60.0)]]),
        ({}, [[Text("long"), Usage(1, 1), Finish("length")]]),
    ],
)
def test_a_turn_ends_at_its_limits_and_names_the_setting(make_app, settings, script):
    client = make_app(script, **settings).test_client()

    events = turn(client, create(client))

    check_turn(events, after=0)
    assert [event.name for event in events[-2:]] == ["error", "done"]
    assert events[-2].data["code"] == "LIMIT_REACHED"
    assert all(f"OPENCODE_{name.upper()}" in events[-2].data["message"] for name in settings)
    assert events[-1].data["status"] == "failed"


def test_the_model_of_one_turn_can_be_another_than_the_sessions(client, app):
    session_id = create(client)

    events = turn(client, session_id, model="scripted/other")

    assert events[0].data["model"] == "scripted/other"
    assert app.extensions["opencode"].models.provider("scripted").requests[-1].model == "other"
    assert client.get(f"/api/session/{session_id}").json["resolved_model"] == "scripted/script"
    refused(
        client.post(f"/api/session/{session_id}/message", json={"content": "x", "model": "no-such-model"}),
        400,
        "INVALID_REQUEST",
        "no-such-model",
    )


def test_what_was_said_before_is_told_to_the_model_again(client, app):
    session_id = create(client)
    turn(client, session_id, "first")
    turn(client, session_id, "second")

    told = app.extensions["opencode"].models.provider("scripted").requests[-1].messages

    assert [message.content for message in told] == ["first", "Hello, world.", "second"]


# Accept


STREAM, JSON = "text/event-stream", "application/json"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, STREAM),
        ("", STREAM),
        ("*/*", STREAM),
        (STREAM, STREAM),
        ("text/*", STREAM),
        ("text/event-stream, */*;q=0.1", STREAM),
        ("application/json, text/event-stream", STREAM),
        ("application/json;q=0.5, text/event-stream;q=0.5", STREAM),
        ("application/json;q=0.5, */*;q=0.6", STREAM),
        ("text/event-stream;q=0, */*", JSON),
        ("text/event-stream;charset=utf-8", STREAM),
        (JSON, JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/*", JSON),
        ("application/json, text/plain, */*;q=0.9", JSON),
        ("application/json;q=0.9, text/event-stream;q=0.8", JSON),
        ("application/json, text/event-stream;q=0", JSON),
        ("APPLICATION/JSON", JSON),
    ],
)
def test_the_answer_is_of_the_kind_that_accept_likes_best(lasting, accept, kind):
    session_id = create(lasting)
    headers = {} if accept is None else {"Accept": accept}

    response = lasting.post(f"/api/session/{session_id}/message", json={"content": "hi"}, headers=headers)

    assert response.mimetype == kind, response.text
    if kind == STREAM:
        check_turn(stream(response).rest(), after=0)
    else:
        assert response.json["message"]["content"] == "Hello, world."


@pytest.mark.parametrize("accept", ["text/html", "image/*, text/plain", "text/event-stream;q=0", "*/*;q=0"])
def test_an_accept_that_admits_neither_kind_is_refused_and_starts_nothing(client, app, accept):
    session_id = create(client)
    before = stored(app)

    response = client.post(f"/api/session/{session_id}/message", json={"content": "hi"}, headers={"Accept": accept})

    refused(response, 406, "INVALID_REQUEST", STREAM, JSON)
    assert stored(app) == before


def test_the_json_answer_comes_when_the_turn_has_ended_and_is_the_turns_own(lasting):
    session_id = create(lasting)

    response = lasting.post(
        f"/api/session/{session_id}/message", json={"content": "hi"}, headers={"Accept": "application/json"}
    )

    answer = response.json
    assert answer["status"] == "completed"
    assert answer["tokens"] == 10
    assert isinstance(answer["duration"], int)
    assert answer["error"] is None
    message = answer["message"]
    assert (message["role"], message["content"], message["status"]) == ("assistant", "Hello, world.", "completed")
    assert lasting.get(f"/api/session/{session_id}/turn/{answer['turn_id']}").json == answer
    assert lasting.get(f"/api/session/{session_id}").json["messages"][1] == message


def test_a_turn_that_failed_is_still_a_json_answer_with_its_error(lasting):
    session_id = create(lasting, model="claude-3-sonnet")

    response = lasting.post(
        f"/api/session/{session_id}/message", json={"content": "hi"}, headers={"Accept": "application/json"}
    )

    assert response.status_code == 200
    assert (response.json["status"], response.json["error"]) == ("failed", "PROVIDER_NOT_CONFIGURED")


# While a turn runs


def test_a_second_turn_is_refused_while_one_runs(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    seen = opened.until("text")

    refused(held.post(f"/api/session/{session_id}/message", json={"content": "too"}), 409, "SESSION_BUSY")

    # The refused one left no trace, and another session is free.
    other = create(held)
    assert say(held, other).until("text")
    going.set()
    seen += opened.rest()
    check_turn(seen, after=0)
    assert held.get(f"/api/session/{session_id}").json["message_count"] == 2


def test_a_running_turn_can_be_looked_at(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    turn_id = opened.until("text")[0].data["turn_id"]

    running = held.get(f"/api/session/{session_id}/turn/{turn_id}").json
    listed = held.get("/api/sessions").json["sessions"][0]["status"]
    going.set()
    opened.rest()
    ended = held.get(f"/api/session/{session_id}/turn/{turn_id}").json

    assert (running["turn_id"], running["status"], running["error"]) == (turn_id, "running", None)
    assert listed == "running"
    assert (ended["status"], ended["message"]["content"]) == ("completed", "on it, done.")
    for answer in (running, ended):
        assert TIME.fullmatch(answer["created_at"])
        assert set(answer["usage"]) >= {"input", "output", "cached"}
    assert running["ended_at"] is None
    assert TIME.fullmatch(ended["ended_at"])
    assert (ended["usage"]["input"], ended["usage"]["output"], ended["usage"]["cached"]) == (5, 4, 1)


def test_a_turn_of_another_session_or_of_none_is_not_found(lasting):
    session_id, other = create(lasting), create(lasting)
    turn_id = turn(lasting, session_id)[0].data["turn_id"]

    refused(lasting.get(f"/api/session/{other}/turn/{turn_id}"), 404, "NOT_FOUND", turn_id)
    refused(lasting.get(f"/api/session/{session_id}/turn/trn_missing"), 404, "NOT_FOUND", "trn_missing")
    refused(lasting.get(f"/api/session/ses_missing/turn/{turn_id}"), 404, "SESSION_NOT_FOUND")
    refused(lasting.get(f"/api/session/{other}/message?turn={turn_id}"), 404, "NOT_FOUND", turn_id)


def test_abort_ends_the_turn_with_done(held):
    session_id = create(held)
    opened = say(held, session_id)
    seen = opened.until("text")

    answer = held.post(f"/api/session/{session_id}/abort")
    seen += opened.rest()

    assert answer.json == {"success": True, "aborted": True}
    check_turn(seen, after=0)
    assert seen[-1].data["status"] == "aborted"
    assert "error" not in [event.name for event in seen]
    message = held.get(f"/api/session/{session_id}").json["messages"][1]
    assert (message["content"], message["status"]) == ("on it, ", "aborted")
    assert held.post(f"/api/session/{session_id}/abort").json == {"success": True, "aborted": False}


def test_abort_can_be_for_one_turn_only(held):
    session_id = create(held)
    opened = say(held, session_id)
    turn_id = opened.until("text")[0].data["turn_id"]

    other = held.post(f"/api/session/{session_id}/abort", json={"turn_id": "trn_other"})
    assert other.json == {"success": True, "aborted": False}
    assert held.get(f"/api/session/{session_id}").json["status"] == "running"
    assert held.post(f"/api/session/{session_id}/abort", json={"turn_id": turn_id}).json["aborted"] is True


def test_abort_kills_the_process_group_of_a_running_tool(make_app):
    call = ToolCall("call_1", "bash", {"command": "echo started; (sleep 60; touch late) & sleep 60; touch late"})
    client = make_app([[call, Usage(1, 1)]]).test_client()
    session_id = create(client)
    opened = say(client, session_id)
    seen = opened.until("tool_output")

    client.post(f"/api/session/{session_id}/abort")
    seen += opened.rest()

    check_turn(seen, after=0)
    result = next(event.data for event in seen if event.name == "tool_result")
    assert result["is_error"] is True
    assert seen[-1].data["status"] == "aborted"


def test_who_leaves_stops_nothing_and_can_come_back(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    seen = opened.until("text")
    opened.close()

    back = follow(held, session_id, headers={"Last-Event-ID": opened.last_id})
    going.set()
    seen += back.until("done")

    check_turn(seen, after=0)
    assert seen[-1].data["status"] == "completed"


def test_a_patch_during_a_turn_is_in_its_stream(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    seen = opened.until("text")

    held.patch(f"/api/session/{session_id}", json={"title": "renamed"})
    seen += opened.until("session_updated")
    going.set()
    seen += opened.rest()

    check_turn(seen, after=0)


# Following


def test_following_replays_what_comes_after_a_number_and_goes_on_live(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    opened.until("text")

    following = follow(held, session_id, "?after=1")
    assert following.first_id == "1"
    seen = following.until("text")
    going.set()
    seen += following.until("done")

    check_log(seen, after=1)
    # It stays open: the next turn comes over the same stream.
    turn(held, session_id, "again")
    seen += following.until("done")
    check_log(seen, after=1)
    assert [event.data["content"] for event in seen if event.name == "turn_start"] == ["again"]


def test_any_number_of_followers_get_every_event_once_at_their_own_pace(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    opened.until("text")
    followers = [follow(held, session_id, "?after=0") for _ in range(5)]
    followers[0].until("text")
    going.set()
    turns = opened.rest()

    seen = [own.until("done") for own in followers[1:]]

    assert turns[-1].name == "done"
    for events in seen:
        check_turn(events, after=0)


def test_the_last_event_id_goes_before_the_addresss_after(lasting):
    session_id = create(lasting)
    events = turn(lasting, session_id)

    following = follow(lasting, session_id, "?after=0&until=end", headers={"Last-Event-ID": "3"})

    assert following.first_id == "3"
    assert following.rest() == events[3:]


@pytest.mark.parametrize("stale", ["", "abc", "-1", "1.5", "ses_1-2", "²", "9" * 5000])
def test_a_last_event_id_that_is_no_number_of_ours_never_breaks_the_follower(lasting, stale):
    session_id = create(lasting)
    events = turn(lasting, session_id)

    followed = follow(lasting, session_id, "?after=1&until=end", headers={"Last-Event-ID": stale}).rest()

    names = [event.name for event in followed]
    assert names in ([event.name for event in events[1:]], ["resync"])


@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "2"}])
def test_until_the_end_replays_what_is_stored_and_ends(lasting, headers):
    session_id = create(lasting)
    events = turn(lasting, session_id) + turn(lasting, session_id)

    followed = follow(lasting, session_id, "?until=end", headers=headers).rest()

    assert followed == events[int(headers.get("Last-Event-ID", 0)) :]


def test_until_the_end_of_a_running_turn_ends_where_the_log_does(held):
    session_id = create(held)
    opened = say(held, session_id)
    seen = opened.until("text")

    assert follow(held, session_id, "?until=end").rest() == seen


def test_until_the_end_of_an_empty_log_is_an_empty_stream(lasting):
    opened = follow(lasting, create(lasting), "?until=end")

    assert opened.first_id == "0"
    assert opened.rest() == []


def test_one_turn_can_be_replayed(lasting):
    session_id = create(lasting)
    turn(lasting, session_id, "one")
    events = turn(lasting, session_id, "two")
    turn(lasting, session_id, "three")

    followed = follow(lasting, session_id, f"?turn={events[0].data['turn_id']}").rest()

    assert followed == events


def test_a_running_turn_can_be_joined_by_its_id(held, going):
    session_id = create(held)
    opened = say(held, session_id)
    turn_id = opened.until("text")[0].data["turn_id"]

    joined = follow(held, session_id, f"?turn={turn_id}")
    seen = joined.until("text")
    going.set()
    seen += joined.rest()

    check_turn(seen, after=0)


def test_without_a_number_a_running_turn_is_followed_from_its_start(held, going):
    session_id = create(held)
    going.set()
    first = turn(held, session_id)
    going.clear()
    opened = say(held, session_id, "second")
    opened.until("text")

    following = follow(held, session_id)
    going.set()
    seen = following.until("done")

    check_turn(seen, after=first[-1].seq)
    assert seen[0].data["content"] == "second"


def test_without_a_number_where_no_turn_runs_the_next_one_is_followed(lasting):
    session_id = create(lasting)
    first = turn(lasting, session_id, "first")

    following = follow(lasting, session_id)
    assert following.first_id == str(first[-1].seq)
    second = turn(lasting, session_id, "second")

    assert following.until("done") == second


@pytest.mark.parametrize("after", ["99", "-1", "x", "1.5", "", "9" * 30, "9" * 5000])
def test_an_after_beyond_the_log_or_that_is_no_number_is_refused(lasting, after):
    session_id = create(lasting)
    turn(lasting, session_id)

    error = refused(lasting.get(f"/api/session/{session_id}/message?after={after}"), 400, "INVALID_REQUEST", "after")

    assert error["details"][0]["field"] == "after"


def test_a_last_event_id_beyond_the_log_gets_a_resync_and_then_goes_on_live(lasting):
    session_id = create(lasting)
    last = turn(lasting, session_id)[-1].seq

    following = follow(lasting, session_id, headers={"Last-Event-ID": "4711"})
    resync = next(following)
    again = turn(lasting, session_id)

    assert following.first_id == str(last)
    assert (resync.name, resync.data) == ("resync", {"seq": last})
    assert resync.last_id == str(last)
    assert following.until("done") == again


def test_every_stream_of_a_deleted_session_ends_with_its_deletion(held):
    session_id = create(held)
    opened = say(held, session_id)
    seen = opened.until("text")
    following, waiting = follow(held, session_id), follow(held, session_id, "?after=3")
    following.until("text")

    assert held.delete(f"/api/session/{session_id}").json == {"success": True}

    # The running turn's stream gets its done,
    rest = opened.rest()
    seen += [event for event in rest if event.name != "session_deleted"]
    check_turn(seen, after=0)
    assert seen[-1].data["status"] == "aborted"
    # and everyone else that, and the deletion, which has no id of its own.
    for own in (following, waiting):
        *_, done, deleted = own.rest()
        assert done.name == "done"
        assert (deleted.name, deleted.id, deleted.data) == ("session_deleted", None, {"session_id": session_id})
        assert own.last_id == str(seen[-1].seq)


def test_streams_end_with_a_time_to_come_back_when_the_server_stops(make_app):
    app = make_app()
    client = app.test_client()
    session_id = create(client)
    following = follow(client, session_id)
    events = turn(client, session_id)

    make_app.stop(app)

    assert following.rest() == events
    assert following.retry is not None
    assert 2000 <= following.retry <= 10_000


def test_a_follower_of_nothing_is_not_found(lasting):
    refused(lasting.get("/api/session/ses_missing/message"), 404, "SESSION_NOT_FOUND", "ses_missing")


# Permission


@pytest.mark.parametrize(("response", "ran"), [("once", True), ("always", True), ("reject", False)])
def test_a_call_that_must_be_asked_for_waits_for_the_answer(make_app, response, ran):
    call = ToolCall("call_1", "bash", {"command": "touch ran"})
    client = make_app([[call, Usage(1, 1)], [Text("ok"), Usage(1, 1)]]).test_client()
    session_id = create(client, permission={"bash": "ask"})
    opened = say(client, session_id)
    seen = opened.until("permission_request")
    asked = seen[-1].data
    assert client.get(f"/api/session/{session_id}").json["status"] == "waiting"
    assert not (make_app.work / "ran").exists()

    address = f"/api/session/{session_id}/permission/{asked['permission_id']}"
    assert client.post(address, json={"response": response}).json == {"success": True}
    seen += opened.rest()

    check_turn(seen, after=0)
    assert (asked["tool"], asked["params"]) == ("bash", {"command": "touch ran"})
    reply = next(event.data for event in seen if event.name == "permission_reply")
    assert (reply["permission_id"], reply["response"]) == (asked["permission_id"], response)
    assert (make_app.work / "ran").exists() is ran
    # The same answer again is no fault; another one comes too late.
    assert client.post(address, json={"response": response}).json == {"success": True}
    other = "reject" if ran else "once"
    refused(client.post(address, json={"response": other}), 409, "PERMISSION_ANSWERED")


def test_always_covers_the_same_command_only(make_app):
    def call(command: str) -> list:
        return [ToolCall("call_1", "bash", {"command": command}), Usage(1, 1)]

    client = make_app([call("echo a"), call("echo a"), call("echo b"), [Text("ok"), Usage(1, 1)]]).test_client()
    session_id = create(client, permission={"bash": "ask"})
    opened = say(client, session_id)
    first = opened.until("permission_request")[-1].data
    client.post(f"/api/session/{session_id}/permission/{first['permission_id']}", json={"response": "always"})

    until_next = opened.until("permission_request")
    second = until_next[-1].data
    client.post(f"/api/session/{session_id}/permission/{second['permission_id']}", json={"response": "reject"})
    opened.rest()

    assert [event.name for event in until_next].count("tool_result") == 2
    assert second["params"] == {"command": "echo b"}


def test_a_permission_request_that_there_is_none_of_is_not_found(lasting):
    session_id = create(lasting)
    refused(
        lasting.post(f"/api/session/{session_id}/permission/per_missing", json={"response": "once"}),
        404,
        "NOT_FOUND",
        "per_missing",
    )
    refused(
        lasting.post("/api/session/ses_missing/permission/per_missing", json={"response": "once"}),
        404,
        "SESSION_NOT_FOUND",
    )


# The parser that all of this leans on


@pytest.mark.parametrize(
    "data",
    [
        b"id: 1\nevent: a\ndata: x\n",
        b"id: 1\nfoo: x\n\n",
        b"retry: soon\n\n",
        b"id: \xff\n\n",
        b"data: x",
        b"id: 1\0\ndata: x\n\n",
    ],
)
def test_the_parser_refuses_what_a_browser_would_drop_in_silence(data):
    from tests.sse import parse

    with pytest.raises(Malformed):
        parse(data)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_parser_takes_every_line_end_and_every_cut(end, size):
    from tests.sse import Parser

    lines = ["\ufeff: beat", "retry: 10", "id: 1", "", "id:2", "event:a", "data: é\u2028x", "data", "", "data:y", ""]
    data = b"".join(line.encode() + end for line in lines)
    parser = Parser()

    events = [event for at in range(0, len(data), size) for event in parser.feed(data[at : at + size])] + parser.end()

    assert [(event.name, event.lines, event.id, event.last_id) for event in events] == [
        ("a", ("é\u2028x", ""), "2", "2"),
        ("message", ("y",), None, "2"),
    ]
    assert (parser.retry, parser.comments) == (10, ["beat"])
