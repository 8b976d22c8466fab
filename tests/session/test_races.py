"""What happens in the same moment: equal requests, a stop, a deletion, a rule that is made stricter."""

import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest

from opencode.bus.memory import MemoryBus
from opencode.cancel import Cancel
from opencode.errors import IdempotencyConflict, Unavailable
from opencode.provider.port import Finish, Text, ToolCall
from opencode.provider.scripted import Wait
from opencode.session.keys import Key
from opencode.session.pen import Draft, Pen
from opencode.session.permission import Gate, topic
from opencode.session.runner import Runner
from opencode.session.turn import HANDED_BACK, OUT_OF_TIME
from tests.contracts.stored import a_session, a_turn, started_turn, stored_session
from tests.damage import locked
from tests.session.story import DEADLINE_S, OWNER, each, eventually, names

HELLO = [[Text("hello")]]
KEY = Key("POST /message", "k", "hash")


def held(*, then=()):
    """A script that says one word and waits for the event; then come further answers."""
    go = threading.Event()
    return go, [[Text("one "), Wait(go), Text("two")], *then]


# Idempotency keys


def test_equal_requests_at_the_same_moment_get_the_same_turn(play):
    go, script = held()
    story = play(script)
    session = story.session()
    ready, got = threading.Barrier(8), []

    def ask():
        ready.wait(DEADLINE_S)
        try:
            got.append(story.send(session, key=KEY).id)
        except Exception as exc:
            got.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    go.set()

    assert len(got) == 8
    assert len(set(got)) == 1, got


def test_who_asks_again_joins_its_turn_also_where_no_further_one_may_run(play):
    go, script = held()
    story = play(script, max_turns=1, rate_limit=True)
    session = story.session()

    first = story.send(session, key=KEY)

    assert story.send(session, key=KEY).id == first.id
    go.set()


def test_a_key_is_forgotten_after_a_day_whether_or_not_another_was_used_since(play, tmp_path):
    story = play([[Text("a")], [Text("b")]])
    session = story.session()
    first = story.send(session, key=KEY)
    story.until_done(first)
    other = Key(KEY.scope, KEY.key, "another hash")
    with pytest.raises(IdempotencyConflict):
        story.send(session, key=other)

    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite3", isolation_level=None)) as database:
        database.execute("UPDATE idempotency SET created_at = created_at - 86400")
    second = story.send(session, key=other)

    assert second.id != first.id
    story.until_done(second)


# Rules


def test_a_rule_that_is_made_stricter_holds_for_the_running_turns_next_call(play):
    go, script = held(then=[[ToolCall("c", "write", {"path": "a", "content": "x"})], [Text("ok")]])
    script[0] = [Wait(go), *script.pop(1)]
    story = play(script)
    session = story.session()
    turn = story.send(session)
    story.until(turn, "step")

    story.sessions.update(OWNER, session.id, {"permission": {"write": "deny"}})
    go.set()

    [result] = [event.data for event in story.until_done(turn) if event.name == "tool_result"]
    assert "denied" in result["result"]
    assert not (story.directory / "a").exists()


# Deletion


def test_a_deleted_sessions_turns_all_get_their_done_and_none_that_waits_begins(play):
    _go, script = held()
    story = play(script)
    session = story.session()
    running = story.send(session)
    story.until(running, "text")
    waiting = [story.send(session, f"{n}", when_busy="queue") for n in range(2)]
    followers = [story.sessions.follow_turn(turn, beat_s=0.5) for turn in (running, *waiting)]

    story.sessions.delete(OWNER, session.id)

    told = [list(each(follower.chunks)) for follower in followers]
    assert names(told[0])[-1] == "done"
    assert [names(events) for events in told[1:]] == [["turn_start", "done"]] * 2
    assert {events[-1].data["status"] for events in told} == {"aborted"}
    assert len(story.provider.requests) == 1


# An abort


class Says:
    """A model of one word; `finished` is set when nothing of it is left to be cancelled."""

    def __init__(self, go):
        self.go = go
        self.finished = threading.Event()

    def missing(self):
        return None

    def models(self):
        return ["script"]

    def stream(self, _request, _cancel):
        yield Text("word")
        self.go.wait(DEADLINE_S)
        yield Finish("stop")
        self.finished.set()

    def close(self):
        pass


def test_an_abort_that_comes_too_late_does_not_claim_to_have_stopped_anything(play, tmp_path):
    # Given a turn whose answer is whole, and whose end cannot be stored yet
    go = threading.Event()
    model = Says(go)
    story = play({"scripted": model})
    session = story.session()
    turn = story.send(session)
    story.until(turn, "text")
    with locked(tmp_path / "data" / "store.sqlite3"):
        go.set()
        assert model.finished.wait(DEADLINE_S)
        aborted = []
        aborting = threading.Thread(target=lambda: aborted.append(story.sessions.abort(OWNER, session.id)))
        aborting.start()
        aborting.join(0.2)
    aborting.join(DEADLINE_S)

    assert story.until_done(turn)[-1].data["status"] == "completed"
    assert aborted == [False]


# The runner by itself


class Works:
    """Turns that wait until they are stopped; `reasons` says by what."""

    def __init__(self, store, **options):
        self.reasons = []
        self.entered = threading.Event()
        self.leave, self.left = threading.Event(), threading.Event()
        self.runner = Runner(self, store, **{"turn_timeout_s": 3600.0, "lease_s": 15.0} | options)

    def __call__(self, _turn, cancel, pause):
        with pause():
            self.entered.set()
            self.leave.wait(DEADLINE_S)
        self.left.set()
        early = cancel.reason
        cancel.wait(DEADLINE_S)
        self.reasons += [early, cancel.reason]


@pytest.fixture
def works(store):
    made = []

    def make(**options):
        made.append(Works(store, **options))
        return made[-1]

    yield make
    for own in made:
        own.leave.set()
        own.runner.stop(0.0)


def test_no_turn_begins_after_the_stop_and_one_that_was_just_stored_is_handed_back(works):
    own = works()
    own.leave.set()
    own.runner.stop(0.0)

    with pytest.raises(Unavailable):
        own.runner.reserve(a_turn(a_session()))
    own.runner.start(a_turn(a_session()))

    assert eventually(lambda: own.reasons)[-1] == HANDED_BACK


def test_what_runs_in_a_session_is_stopped_and_nothing_else(works):
    own = works()
    own.leave.set()
    session, other = a_session(), a_session()
    mine, others = a_turn(session), a_turn(other)
    own.runner.start(mine)
    own.runner.start(others)

    own.runner.cancel_in(session.id)

    eventually(lambda: not own.runner.has(mine.id))
    assert own.reasons[-1] == "aborted"
    assert len(own.reasons) == 2
    assert own.runner.has(others.id)


def test_a_turn_whose_session_was_deleted_as_it_began_is_no_fault(store, caplog):
    def work(turn, _cancel, _pause):
        store.get(turn.owner, turn.session_id)

    caplog.set_level("INFO", "opencode")
    runner = Runner(work, store, turn_timeout_s=3600.0, lease_s=15.0)
    turn = a_turn(a_session())
    runner.start(turn)

    eventually(lambda: not runner.has(turn.id))
    runner.stop(0.0)
    [record] = [own for own in caplog.records if turn.id in own.getMessage()]
    assert record.levelname == "INFO"
    assert record.exc_info is None


def test_a_turns_seconds_stand_still_while_it_waits_for_a_person(works):
    # Given a clock of ours, and a turn of ten seconds that waits for a person
    now, ticks = [1000.0], []
    own = works(turn_timeout_s=10.0, seconds=lambda: now[0])
    own.runner.on_tick = lambda: ticks.append(now[0])
    own.runner.start(a_turn(a_session()))
    assert own.entered.wait(DEADLINE_S)

    # When a minute goes by, and has been noticed
    now[0] += 60.0
    eventually(lambda: ticks and ticks[-1] == now[0])

    # Then it may go on, and its own seconds are counted on from where they were
    own.leave.set()
    assert own.left.wait(DEADLINE_S)
    now[0] += 9.0
    eventually(lambda: ticks[-1] == now[0])
    assert own.reasons == []
    now[0] += 2.0
    assert eventually(lambda: own.reasons) == ["", OUT_OF_TIME]


def test_who_waits_for_a_person_says_so(store, log):
    # Given a call that is to be asked for
    session = stored_session(store, permission={"bash": "ask"})
    turn = started_turn(log.append, session)
    pen = Pen(log, turn, Draft(turn.message_id))
    call = {"type": "tool", "step": 1, "call_id": "call_1", "tool": "bash", "params": {}, "status": "pending"}
    bus, said, outcome = MemoryBus(), [], []

    @contextmanager
    def pause():
        said.append("waits")
        yield
        said.append("goes on")

    gate = Gate(store, bus, {}, DEADLINE_S, pause)
    own = pen.draft.add(call)
    asking = threading.Thread(target=lambda: outcome.append(gate.refusal(session, turn, pen, Cancel(), own)))

    # When it is asked, and then answered
    asking.start()
    [request] = eventually(lambda: store.permissions(session.id, response=None))
    eventually(lambda: said == ["waits"])
    store.answer(request.id, "once")
    bus.ring(topic(request.id))
    asking.join(DEADLINE_S)

    assert said == ["waits", "goes on"]
    assert outcome == [None]
