"""Permission: settings are the ceiling, a session may be stricter, and a person answers what is to be asked."""

import threading
import time

import pytest

from opencode.errors import InvalidRequest, NotFound, PermissionAnswered, SessionNotFound
from opencode.provider.port import Text, ToolCall
from opencode.session.permission import rule
from tests.session.story import DEADLINE_S, OWNER, assert_whole_turn, eventually, names


def write(path, content="x"):
    return ToolCall("c", "write", {"path": path, "content": content})


def run(command):
    return ToolCall("c", "bash", {"command": command})


def results(events):
    return [event.data for event in events if event.name == "tool_result"]


def answer(story, session, request, response):
    story.sessions.answer(OWNER, session.id, request.data["permission_id"], response)


@pytest.mark.parametrize("ceiling", ["allow", "ask", "deny", None])
@pytest.mark.parametrize("own", ["allow", "ask", "deny", None])
def test_the_stricter_rule_holds_and_silence_allows(ceiling, own):
    order = ["allow", "ask", "deny"]

    decided = rule({"bash": ceiling} if ceiling else {}, {"bash": own} if own else {}, "bash")

    assert decided == order[max(order.index(ceiling or "allow"), order.index(own or "allow"))]


def test_what_a_session_is_offered_runs_without_asking(play):
    story = play([[write("a.txt")], [Text("ok")]])

    events = story.tell(story.session())

    assert "permission_request" not in names(events)
    assert (story.directory / "a.txt").read_text() == "x"


@pytest.mark.parametrize("where", ["settings", "session"])
def test_a_denied_tool_is_not_run_and_nobody_is_asked(play, where):
    rules = {"write": "deny"}
    story = play([[write("a.txt")], [Text("ok")]], permission=rules if where == "settings" else {})
    session = story.session(rules=rules if where == "session" else None)

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "tool_call", "tool_result", "step", "text", "done"]
    assert results(events)[0]["is_error"]
    assert "denied" in results(events)[0]["result"]
    assert not (story.directory / "a.txt").exists()


@pytest.mark.parametrize(("response", "runs"), [("once", True), ("always", True), ("reject", False)])
def test_a_call_waits_for_its_answer(play, response, runs):
    # Given a turn that asks before it writes
    story = play([[Text("I will."), write("a.txt")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)
    request = story.until(turn, "permission_request")

    # Then nothing has happened yet, and everyone can see that it waits
    assert request.data["tool"] == "write"
    assert request.data["params"] == {"path": "a.txt", "content": "x"}
    assert not (story.directory / "a.txt").exists()
    shown, messages, _ = story.sessions.snapshot(OWNER, session.id, limit=9, before=None)
    assert (shown.status, messages[1].content) == ("waiting", "I will.")
    assert shown.folded_seq == request.seq

    # When it is answered
    answer(story, session, request, response)

    # Then the answer decides, and stands in the log between request and result
    events = story.until_done(turn)
    assert names(events) == [
        *("turn_start", "step", "text", "tool_call", "permission_request", "permission_reply"),
        *("tool_result", "step", "text", "done"),
    ]
    assert_whole_turn(events)
    reply = events[5].data
    assert (reply["permission_id"], reply["response"]) == (request.data["permission_id"], response)
    assert results(events)[0]["is_error"] is not runs
    assert (story.directory / "a.txt").exists() is runs
    assert events[-1].data["status"] == "completed"


def test_once_is_for_one_call_only(play):
    story = play([[write("a"), write("b")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)

    answer(story, session, story.until(turn, "permission_request"), "once")
    answer(story, session, story.until(turn, "permission_request", nth=2), "reject")

    assert [result["is_error"] for result in results(story.until_done(turn))] == [False, True]


def test_always_covers_the_tool_in_this_session_and_its_later_turns_and_no_other_session(play):
    story = play([[write("a"), write("b")], [Text("ok")], [write("c")], [Text("ok")]], permission={"write": "ask"})
    session, other = story.session(), story.session()
    turn = story.send(session)

    answer(story, session, story.until(turn, "permission_request"), "always")

    assert names(story.until_done(turn)).count("permission_request") == 1
    assert "permission_request" not in names(story.tell(session, "again"))
    waiting = story.send(other)
    story.until(waiting, "permission_request")
    story.sessions.abort(OWNER, other.id)


def test_always_for_bash_covers_this_very_command(play):
    story = play([[run("echo a"), run("echo a"), run("echo a; echo b")], [Text("ok")]], permission={"bash": "ask"})
    session = story.session()
    turn = story.send(session)

    answer(story, session, story.until(turn, "permission_request"), "always")
    second = story.until(turn, "permission_request", nth=2)
    answer(story, session, second, "reject")

    assert second.data["params"] == {"command": "echo a; echo b"}
    assert [result["is_error"] for result in results(story.until_done(turn))] == [False, False, True]


def test_always_does_not_outweigh_a_rule_that_denies(play):
    story = play([[write("a")], [Text("ok")], [write("b")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)
    answer(story, session, story.until(turn, "permission_request"), "always")
    story.until_done(turn)

    story.sessions.update(OWNER, session.id, {"permission": {"write": "deny"}})

    assert results(story.tell(session, "again"))[0]["is_error"]
    assert not (story.directory / "b").exists()


def test_the_first_answer_wins_and_the_same_again_is_no_fault(play):
    story = play([[write("a")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)
    request = story.until(turn, "permission_request")
    answer(story, session, request, "once")

    answer(story, session, request, "once")
    with pytest.raises(PermissionAnswered, match="once"):
        answer(story, session, request, "reject")

    assert names(story.until_done(turn)).count("permission_reply") == 1


def test_of_many_answers_at_once_the_log_holds_the_one_that_won(play):
    story = play([[write("a")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)
    request = story.until(turn, "permission_request")
    won = []

    def try_(response):
        try:
            answer(story, session, request, response)
        except PermissionAnswered:
            return
        won.append(response)

    threads = [threading.Thread(target=try_, args=(response,)) for response in ("once", "reject", "always")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    replies = [event.data["response"] for event in story.until_done(turn) if event.name == "permission_reply"]
    assert replies == won


def test_a_request_belongs_to_its_session_and_owner(play):
    story = play([[write("a")], [Text("ok")]], permission={"write": "ask"})
    session, other = story.session(), story.session()
    turn = story.send(session)
    request = story.until(turn, "permission_request")

    with pytest.raises(SessionNotFound):
        story.sessions.answer("eve", session.id, request.data["permission_id"], "once")
    with pytest.raises(NotFound):
        answer(story, other, request, "once")
    with pytest.raises(NotFound):
        story.sessions.answer(OWNER, session.id, "per_unknown", "once")
    assert not (story.directory / "a").exists()
    answer(story, session, request, "reject")
    story.until_done(turn)


def test_an_unanswered_request_counts_as_rejected_after_its_time(play):
    story = play([[write("a")], [Text("ok")]], permission={"write": "ask"}, permission_timeout_s=0.05)

    events = story.tell(story.session())

    assert [event.data["response"] for event in events if event.name == "permission_reply"] == ["reject"]
    assert results(events)[0]["is_error"]
    assert events[-1].data["status"] == "completed"
    assert not (story.directory / "a").exists()


def test_an_abort_while_it_waits_ends_the_turn_at_once_and_nothing_runs(play):
    story = play([[write("a")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)
    story.until(turn, "permission_request")
    began = time.monotonic()

    assert story.sessions.abort(OWNER, session.id) is True
    assert time.monotonic() - began < 3  # by the bell, and not by the next look into the store

    events = story.until_done(turn)
    assert names(events)[-3:] == ["permission_request", "tool_result", "done"]
    assert assert_whole_turn(events).data["status"] == "aborted"
    assert story.sessions.snapshot(OWNER, session.id, limit=1, before=None)[0].status == "idle"
    assert not (story.directory / "a").exists()


def test_a_waiting_turn_keeps_the_session_busy_and_its_followers_informed(play):
    story = play([[write("a")], [Text("ok")]], permission={"write": "ask"})
    session = story.session()
    turn = story.send(session)
    request = story.until(turn, "permission_request")

    chunks = story.follow(session, request.seq)
    answer(story, session, request, "once")

    assert eventually(lambda: next(chunks)).first_seq == request.seq + 1
    chunks.close()
    story.until_done(turn)


def test_a_session_cannot_be_looser_than_the_settings(play):
    story = play([], permission={"bash": "ask", "write": "deny"})

    for rules in ({"bash": "allow"}, {"write": "ask"}, {"write": "allow"}):
        with pytest.raises(InvalidRequest, match="the settings allow nothing looser"):
            story.session(rules=rules)
    session = story.session(rules={"bash": "deny", "read": "ask"})
    with pytest.raises(InvalidRequest, match="looser"):
        story.sessions.update(OWNER, session.id, {"permission": {"bash": "allow"}})
    assert story.sessions.update(OWNER, session.id, {"permission": {"bash": "ask"}}).permission == {"bash": "ask"}


def test_a_rule_for_a_tool_that_there_is_not_is_refused_by_name(play):
    story = play([])

    with pytest.raises(InvalidRequest, match="teleport"):
        story.session(rules={"teleport": "deny"})
