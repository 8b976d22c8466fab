"""Queueing, interrupting, idempotency keys, forks and turns that are not waited for (API sections 2 and 3)."""

import threading

from opencode.provider.port import Text, ToolCall
from opencode.provider.scripted import Wait
from tests.server.talk import create, follow, refused, say, stream, turn
from tests.sse import check_log, check_turn


def held(*, deltas=1):
    """A script whose first answer waits for the event in its midst."""
    go = threading.Event()
    return go, [[Text("one "), Wait(go), Text("two")]]


def test_a_queued_turn_begins_when_the_one_before_it_ends_and_its_stream_holds_it_alone(make_app):
    go, script = held()
    client = make_app(script).test_client()
    session_id = create(client)

    first = say(client, session_id, "first")
    first.until("text")
    second = say(client, session_id, "second", when_busy="queue")
    go.set()

    check_turn(first.rest() and turn_of(client, session_id, "first"), after=0)
    told = second.rest()
    assert [event.name for event in told][:: len(told) - 1] == ["turn_start", "done"]
    assert {event.data["turn_id"] for event in told} == {told[0].data["turn_id"]}
    assert told[0].data["content"] == "second"
    everything = follow(client, session_id, "?until=end").until("done")
    check_log(everything, after=0)


def turn_of(client, session_id, content):
    events = follow(client, session_id, "?after=0&until=end").rest()
    [turn_id] = [e.data["turn_id"] for e in events if e.name == "turn_start" and e.data["content"] == content]
    return [event for event in events if event.data["turn_id"] == turn_id]


def test_an_interrupting_turn_aborts_the_running_one_and_goes_before_those_that_wait(make_app):
    _go, script = held()
    client = make_app([*script, [Text("two")], [Text("three")]]).test_client()
    session_id = create(client)
    first = say(client, session_id, "first")
    first.until("text")
    waiting = say(client, session_id, "waiting", when_busy="queue")

    interrupting = turn(client, session_id, "now", when_busy="interrupt")

    assert first.rest()[-1].data["status"] == "aborted"
    assert interrupting[0].data["content"] == "now"
    after = waiting.rest()
    assert after[0].seq == interrupting[-1].seq + 1
    # The messages too stand in the order in which the turns ran, and the model was told of both before.
    told = [message["content"] for message in client.get(f"/api/session/{session_id}").json["messages"]]
    assert told == ["first", "one ", "now", "two", "waiting", "three"]


def test_at_most_twenty_turns_wait_and_a_waiting_one_can_be_aborted(make_app):
    go, script = held()
    client = make_app(script).test_client()
    session_id = create(client)
    first = say(client, session_id)
    first.until("text")
    path = f"/api/session/{session_id}/message"
    async_header = {"Prefer": "respond-async"}
    waiting = [
        client.post(path, json={"content": f"{n}", "when_busy": "queue"}, headers=async_header).json["turn_id"]
        for n in range(20)
    ]

    refused(client.post(path, json={"content": "21", "when_busy": "queue"}), 409, "SESSION_BUSY", "20 turns wait")
    shown = client.get(f"/api/session/{session_id}/turn/{waiting[3]}").json
    assert (shown["status"], shown["message"]["content"], shown["message"]["status"]) == ("queued", "", "queued")
    aborted = client.post(f"/api/session/{session_id}/abort", json={"turn_id": waiting[3]})

    assert aborted.json == {"success": True, "aborted": True}
    assert client.get(f"/api/session/{session_id}/turn/{waiting[3]}").json["status"] == "aborted"
    told = [event.name for event in follow(client, session_id, f"?turn={waiting[3]}").rest()]
    assert told == ["turn_start", "done"]
    go.set()
    ends = [follow(client, session_id, f"?turn={turn_id}").rest()[-1] for turn_id in waiting]
    assert [end.data["status"] for end in ends].count("completed") == 19


def test_the_same_key_and_body_gives_the_same_turn_replayed_or_joined(make_app):
    go, script = held()
    client = make_app(script).test_client()
    session_id = create(client)
    key = {"Idempotency-Key": "k1"}

    first = say(client, session_id, "once", headers=key)
    begun = first.until("text")
    joined = say(client, session_id, "once", headers=key)
    go.set()
    all_of_it = begun + first.rest()
    replayed = say(client, session_id, "once", headers=key)

    assert [event.lines for event in joined.rest()] == [event.lines for event in all_of_it]
    assert [event.lines for event in replayed.rest()] == [event.lines for event in all_of_it]
    assert client.get(f"/api/session/{session_id}").json["message_count"] == 2


def test_a_key_with_another_body_is_refused_and_counts_by_path_alone(client):
    session_id = create(client)
    other_id = create(client)
    key = {"Idempotency-Key": "k1"}
    turn(client, session_id, "once", headers=key)

    response = client.post(f"/api/session/{session_id}/message", json={"content": "twice"}, headers=key)

    refused(response, 409, "IDEMPOTENCY_CONFLICT", "another body")
    assert turn(client, other_id, "twice", headers=key)[-1].name == "done"


def test_what_was_refused_leaves_its_key_free(client):
    key = {"Idempotency-Key": "k1"}
    refused(client.post("/api/session", json={"model": "no-such"}, headers=key), 400, "INVALID_REQUEST")
    assert client.post("/api/session", json={}, headers=key).status_code == 200


def test_creating_with_one_key_many_times_at_once_makes_one_session(make_app):
    app = make_app()
    answers = []

    def ask():
        response = app.test_client().post("/api/session", json={}, headers={"Idempotency-Key": "same"})
        answers.append(response.json["session_id"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert len(app.test_client().get("/api/sessions").json["sessions"]) == 1


def test_a_key_of_over_255_characters_is_refused(client):
    refused(client.post("/api/session", headers={"Idempotency-Key": "k" * 256}), 400, "INVALID_REQUEST", "255")


def test_a_turn_that_is_not_waited_for_is_answered_at_once_with_where_to_follow(make_app):
    go, script = held()
    client = make_app(script).test_client()
    session_id = create(client)

    response = client.post(
        f"/api/session/{session_id}/message", json={"content": "go"}, headers={"Prefer": "respond-async, wait=5"}
    )

    assert response.status_code == 202
    assert response.json == {"turn_id": response.json["turn_id"], "seq": 0}
    go.set()
    followed = stream(client.get(f"/api/session/{session_id}/message?after={response.json['seq']}"))
    check_turn(followed.until("done"), after=0)
    followed.close()


def test_a_fork_begins_with_the_messages_up_to_one_and_goes_on_by_itself(make_app):
    client = make_app(
        [[ToolCall("c", "bash", {"command": "echo hi"})], [Text("first")], [Text("second")]]
    ).test_client()
    session_id = create(client, title="Work")
    turn(client, session_id, "a")
    turn(client, session_id, "b")
    source = client.get(f"/api/session/{session_id}").json

    forked = client.post(f"/api/session/{session_id}/fork", json={"message_id": source["messages"][1]["id"]})
    whole = client.post(f"/api/session/{session_id}/fork")

    copy = client.get(f"/api/session/{forked.json['session_id']}").json
    told = [{k: m[k] for k in ("role", "content", "parts", "timestamp")} for m in copy["messages"]]
    assert told == [{k: m[k] for k in ("role", "content", "parts", "timestamp")} for m in source["messages"][:2]]
    assert copy["title"] == "Work (fork)"
    [first] = follow(client, copy["id"], "?until=end").rest()
    assert (first.name, first.seq, copy["seq"]) == ("forked", 1, 1)
    assert [message["content"] for message in first.data["messages"]] == ["a", "first"]
    check_turn(turn(client, copy["id"], "on"), after=1)
    assert len(client.get(f"/api/session/{whole.json['session_id']}").json["messages"]) == 4
    assert client.get(f"/api/session/{session_id}").json["message_count"] == 4


def test_a_fork_leaves_out_a_turn_that_runs_and_refuses_its_messages(make_app):
    go, script = held()
    client = make_app(script).test_client()
    session_id = create(client)
    running = say(client, session_id, "go")
    running.until("text")
    last = client.get(f"/api/session/{session_id}").json["messages"][-1]["id"]

    response = client.post(f"/api/session/{session_id}/fork", json={"message_id": last})
    empty = client.post(f"/api/session/{session_id}/fork")

    refused(response, 400, "INVALID_REQUEST", "has not ended")
    assert client.get(f"/api/session/{empty.json['session_id']}").json["messages"] == []
    refused(client.post(f"/api/session/{session_id}/fork", json={"message_id": "msg_x"}), 400, "INVALID_REQUEST")
    go.set()
    running.rest()
