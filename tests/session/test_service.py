"""Sessions through their front door: by owner, one turn at a time, followed from anywhere."""

import threading

import pytest

from opencode.errors import (
    InvalidRequest,
    NotFound,
    RateLimitExceeded,
    SessionBusy,
    SessionNotFound,
    Unavailable,
)
from opencode.provider.port import Text, ToolCall
from opencode.provider.scripted import Wait
from tests.contracts.stored import a_turn
from tests.session.story import DEADLINE_S, OWNER, assert_whole_turn, each, eventually, names


def forever():
    return [Wait(threading.Event())]


# Creating and changing


def test_a_session_without_wishes_gets_the_defaults(play):
    story = play([])

    session = story.session()

    assert session.model is None
    assert session.resolved_model == "scripted/script"
    assert session.tools == ("bash", "edit", "read", "write")
    assert session.directory == str(story.directory)
    assert (session.title, session.permission, session.system) == ("", {}, None)
    assert story.sessions.store.get(OWNER, session.id) == session


def test_a_session_keeps_the_model_as_it_was_given_and_what_it_means(play):
    session = play([], model_aliases={"mine": "scripted/big"}).session(model="mine")

    assert (session.model, session.resolved_model) == ("mine", "scripted/big")


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"model": "nobody/x"}, "nobody"),
        ({"tools": ("read", "teleport")}, "teleport"),
        ({"directory": "../other"}, "outside"),
        ({"directory": "/"}, "outside"),
        ({"directory": "missing"}, "not a directory"),
        ({"directory": "file"}, "not a directory"),
        ({"directory": "link"}, "outside"),
        ({"directory": "nul\0byte"}, "directory"),
        ({"directory": "x" * 5000}, "directory"),
        ({"directory": "loop"}, "directory"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_and_nothing_is_stored(play, wish, told):
    story = play([])
    story.put("file", "")
    (story.directory / "link").symlink_to("/")
    (story.directory / "loop").symlink_to("loop")

    with pytest.raises(InvalidRequest, match=told) as refusal:
        story.session(**wish)

    assert len(refusal.value.message) < 1000
    assert story.sessions.page(OWNER, limit=9, cursor=None, query=None).sessions == []


def test_outside_the_roots_what_exists_and_what_does_not_get_the_same_answer(play, tmp_path):
    story = play([])
    (tmp_path / "there").mkdir()

    answers = []
    for name in ("there", "nowhere"):
        with pytest.raises(InvalidRequest) as refusal:
            story.session(directory=str(tmp_path / name))
        answers.append(refusal.value.message.replace(name, "NAME"))

    assert answers[0] == answers[1]


def test_a_directory_within_a_root_may_be_named_from_the_default_one_or_whole(play, tmp_path):
    (tmp_path / "second").mkdir()
    story = play([], project_roots=(str(tmp_path / "work"), str(tmp_path / "second")))
    (story.directory / "sub").mkdir()

    assert story.session(directory="sub").directory == str(story.directory / "sub")
    assert story.session(directory="sub/..").directory == str(story.directory)
    assert story.session(directory=str(tmp_path / "second")).directory == str((tmp_path / "second").resolve())


def test_a_change_is_stored_and_stands_in_the_log(play):
    story = play([])
    session = story.session()

    changed = story.sessions.update(OWNER, session.id, {"title": "New", "tools": ["read"], "model": "scripted/other"})

    assert (changed.title, changed.tools, changed.resolved_model) == ("New", ("read",), "scripted/other")
    (event,) = story.stored(session)
    assert (event.seq, event.name) == (1, "session_updated")
    assert event.data["changed"]["title"] == "New"
    assert changed.folded_seq == 1


def test_a_refused_or_empty_change_leaves_no_event(play):
    story = play([])
    session = story.session()

    story.sessions.update(OWNER, session.id, {})
    with pytest.raises(InvalidRequest):
        story.sessions.update(OWNER, session.id, {"title": "x", "tools": ["teleport"]})
    with pytest.raises(SessionNotFound):
        story.sessions.update("eve", session.id, {"title": "x"})

    assert story.stored(session) == []


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("  Fix the bug\nplease", "Fix the bug"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        ("\n\n  \n", ""),
    ],
)
def test_the_title_comes_from_the_first_message(play, content, title):
    story = play([[Text("ok")], [Text("ok")]])
    session = story.session()

    first = story.tell(session, content)

    assert story.sessions.store.get(OWNER, session.id).title == title
    # And who follows learns it: by this turn, and by no later one.
    assert first[0].data["title"] == (title or None)
    second = story.tell(session, content)
    assert (second[0].name, second[0].data["title"]) == ("turn_start", None)


def test_a_title_that_was_given_stays(play):
    story = play([[Text("ok")]])
    session = story.session(title="Mine")

    story.tell(session, "something else")

    assert story.sessions.store.get(OWNER, session.id).title == "Mine"


def test_of_anothers_session_everything_is_refused_as_if_it_were_not_there(play):
    story = play([forever()])
    session = story.session()
    turn = story.send(session)
    eve = story.sessions

    for ask in (
        lambda: eve.snapshot("eve", session.id, limit=1, before=None),
        lambda: eve.send("eve", session.id, "hi"),
        lambda: eve.update("eve", session.id, {"title": "x"}),
        lambda: eve.delete("eve", session.id),
        lambda: eve.abort("eve", session.id),
        lambda: eve.turn("eve", session.id, turn.id),
        lambda: eve.diff("eve", session.id),
        lambda: eve.follow("eve", session.id, after=0, beat_s=1),
        lambda: eve.answer("eve", session.id, "per_1", "once"),
    ):
        with pytest.raises(SessionNotFound):
            ask()
    assert eve.projects("eve") == []
    assert eve.turn(OWNER, session.id, turn.id).state == "running"


# Turns


def test_what_was_sent_is_stored_when_send_returns(play):
    story = play([forever()])
    session = story.session()

    turn = story.send(session, "remember me")

    assert story.stored(session)[0].name == "turn_start"
    assert turn.first_seq == 1
    assert [message.content for message in story.messages(session)] == ["remember me", ""]
    assert story.sessions.turn(OWNER, session.id, turn.id).state == "running"


def test_a_busy_session_refuses_another_turn_and_stores_nothing_of_it(play):
    story = play([forever(), [Text("ok")]])
    session = story.session()
    turn = story.send(session)
    story.until(turn, "step")

    with pytest.raises(SessionBusy, match=turn.id):
        story.send(session, "me too")

    assert names(story.stored(session)) == ["turn_start", "step"]
    assert len(story.messages(session)) == 2
    story.sessions.abort(OWNER, session.id)
    assert story.stored(session)[-1].name == "done"


def test_of_many_turns_sent_at_once_to_one_session_exactly_one_starts(play):
    story = play([forever()])
    session = story.session()
    started, refused = [], []
    ready = threading.Barrier(8)

    def send():
        ready.wait(DEADLINE_S)
        try:
            started.append(story.send(session))
        except SessionBusy as busy:
            refused.append(busy)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert (len(started), len(refused)) == (1, 7)
    assert names(story.stored(session)).count("turn_start") == 1


def test_many_sessions_run_at_once_and_none_is_mixed_up(play):
    story = play([[Text(f"{n} ") for n in range(30)] + [ToolCall("c", "list", {})], [Text("end")]], max_turns=100)
    sessions = [story.session(tools=("list",)) for _ in range(20)]

    turns = [story.send(session, f"question {n}") for n, session in enumerate(sessions)]

    for n, (session, turn) in enumerate(zip(sessions, turns, strict=True)):
        events = story.until_done(turn)
        assert_whole_turn(events)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[0].data["content"] == f"question {n}"
        assert story.messages(session)[1].content == "".join(f"{m} " for m in range(30)) + "end"


def test_an_owner_has_as_many_running_turns_as_the_settings_allow(play):
    story = play([forever()], max_turns=2)
    sessions = [story.session() for _ in range(3)]
    for session in sessions[:2]:
        story.send(session)

    with pytest.raises(RateLimitExceeded, match=r"OPENCODE_MAX_TURNS.*") as refusal:
        story.send(sessions[2])
    bobs = story.sessions.create("bob")
    story.sessions.send("bob", bobs.id, "mine")
    story.sessions.abort(OWNER, sessions[0].id)
    story.send(sessions[2])

    assert "Retry-After" in refusal.value.headers


def test_a_turn_that_found_room_is_refused_where_others_took_it_meanwhile(play):
    story = play([forever()], max_turns=2)
    runner = story.sessions.runner
    first, second, third = (a_turn(story.session()) for _ in range(3))
    runner.check_room(OWNER)
    runner.reserve(first, new=True)
    runner.reserve(second, new=True)

    with pytest.raises(RateLimitExceeded, match="OPENCODE_MAX_TURNS"):
        runner.reserve(third, new=True)
    assert not runner.has(third.id)
    # What was accepted before, and waited, is not refused.
    runner.reserve(third)
    for turn in (first, second, third):
        runner.release(turn)
    runner.check_room(OWNER)


def test_without_limits_there_is_no_cap_on_turns(play):
    story = play([forever()], max_turns=1, rate_limit=False)

    for _ in range(3):
        story.send(story.session())


def test_a_turn_may_name_its_own_model(play):
    story = play([[Text("ok")]])
    session = story.session()

    events = story.tell(session, model="scripted/other")

    assert events[0].data["model"] == "scripted/other"
    assert story.provider.requests[0].model == "other"
    with pytest.raises(InvalidRequest):
        story.send(session, model="nobody/x")
    assert story.sessions.store.get(OWNER, session.id).resolved_model == "scripted/script"


def test_a_turn_that_there_is_not_is_not_found(play):
    story = play([[Text("ok")]])
    session, other = story.session(), story.session()
    turn = story.send(session)
    story.until_done(turn)

    assert story.sessions.message(story.sessions.turn(OWNER, session.id, turn.id)).content == "ok"
    for session_id, turn_id in ((session.id, "trn_unknown"), (other.id, turn.id)):
        with pytest.raises(NotFound):
            story.sessions.turn(OWNER, session_id, turn_id)


def test_the_diff_shows_what_tools_did_to_files_over_all_turns(play):
    def write(path, content):
        return ToolCall("c", "write", {"path": path, "content": content})

    edit = ToolCall("c", "edit", {"path": "old.txt", "old_string": "two", "new_string": "2"})
    first = [ToolCall("c", "read", {"path": "old.txt"}), edit, write("new.txt", "1\n")]
    second = [write("new.txt", "1\n2\n"), write("same.txt", "same\n")]
    story = play([first, [Text("ok")], second, [Text("ok")]])
    story.put("old.txt", "one\ntwo\n")
    story.put("same.txt", "same\n")
    session = story.session()
    assert story.sessions.diff(OWNER, session.id) == ""

    story.tell(session, "one")
    story.tell(session, "two")

    assert story.sessions.diff(OWNER, session.id) == (
        "--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1,2 @@\n+1\n+2\n"
        "--- a/old.txt\n+++ b/old.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    )


# Deleting and stopping


def test_deleting_a_session_ends_its_turn_then_its_followers_and_then_it_is_gone(play):
    story = play([[Text("a"), *forever()]])
    session = story.session()
    turn = story.send(session)
    story.until(turn, "text")
    following = story.sessions.follow(OWNER, session.id, after=0, beat_s=60)
    events = each(following.chunks)
    assert [next(events).name for _ in range(3)] == ["turn_start", "step", "text"]

    story.sessions.delete(OWNER, session.id)

    assert names(events) == ["done"]
    assert following.tail.deleted
    assert not following.stopping()
    with pytest.raises(SessionNotFound):
        story.messages(session)
    with pytest.raises(SessionNotFound):
        story.sessions.delete(OWNER, session.id)


def test_a_stream_that_is_open_sees_the_done_of_a_deleted_sessions_turn(play):
    story = play([[Text("a"), *forever()]])
    session = story.session()
    turn = story.send(session)
    found = []
    chunks = story.follow(session, 0, turn=turn, beat_s=60)
    reader = threading.Thread(target=lambda: [found.append(event) for event in each(chunks)])
    reader.start()
    eventually(lambda: "text" in names(found))

    story.sessions.delete(OWNER, session.id)

    reader.join(DEADLINE_S)
    assert_whole_turn(found)
    assert found[-1].data["status"] == "aborted"


def test_creating_and_deleting_are_told_to_who_listens(play):
    story = play([])
    told = []

    def created(_sender, session):
        told.append(("created", session.id))

    def deleted(_sender, session):
        told.append(("deleted", session.id))

    story.sessions.session_created.connect(created)
    story.sessions.session_deleted.connect(deleted)
    session = story.session()
    story.sessions.delete(OWNER, session.id)

    assert told == [("created", session.id), ("deleted", session.id)]


def test_a_stopping_server_ends_idle_followers_and_says_so_and_takes_no_more_turns(play):
    story = play([[Text("ok")]])
    session = story.session()
    story.tell(session)
    following = story.sessions.follow(OWNER, session.id, after=0, beat_s=60)
    found = []
    reader = threading.Thread(target=lambda: found.extend(each(following.chunks)))
    reader.start()

    service, services = story.sessions, story.services
    services.stop(0)
    story.services = None

    reader.join(DEADLINE_S)
    assert not reader.is_alive()
    assert names(found)[-1] == "done"
    assert following.stopping()
    with pytest.raises(Unavailable):
        service.send(OWNER, session.id, "late")


# Following


def test_a_follower_begins_after_the_number_it_names(play):
    story = play([[Text("a"), Text("b")]])
    session = story.session()
    story.tell(session)

    for after in range(6):
        found = list(each(story.follow(session, after, live=False)))
        assert [event.seq for event in found] == list(range(after + 1, 6))


def test_a_number_beyond_the_log_is_refused_or_answered_with_where_it_ends(play):
    story = play([[Text("a")]])
    session = story.session()
    story.tell(session)

    with pytest.raises(InvalidRequest, match="ends at 4"):
        story.sessions.follow(OWNER, session.id, after=5, beat_s=1)
    following = story.sessions.follow(OWNER, session.id, after=99, beat_s=1, resync=True)

    assert (following.resync, following.after) == (True, 4)
    assert story.sessions.follow(OWNER, session.id, after=4, beat_s=1, resync=True).resync is False


def test_without_a_number_a_follower_begins_with_the_running_turn_or_with_the_next(play):
    story = play([[Text("a")], [Text("b"), *forever()]])
    session = story.session()
    story.tell(session)

    assert story.sessions.follow(OWNER, session.id, after=None, beat_s=1).after == 4
    turn = story.send(session)
    story.until(turn, "text")
    following = story.sessions.follow(OWNER, session.id, after=None, beat_s=1)
    story.sessions.abort(OWNER, session.id)

    assert following.after == 4
    assert next(each(following.chunks)).data["turn_id"] == turn.id


def test_a_follower_stays_from_turn_to_turn(play):
    story = play([[Text("a")], [Text("b")], [Text("c")]])
    session = story.session()
    chunks = story.follow(session, 0)
    for _ in range(3):
        story.tell(session)

    found = []
    for event in each(chunks):
        found.append(event)
        if names(found).count("done") == 3:
            break
    chunks.close()

    assert [event.seq for event in found] == list(range(1, 13))
