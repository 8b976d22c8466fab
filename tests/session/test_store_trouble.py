"""A store that is locked, that refuses one append of many, or that is damaged."""

import sqlite3
import threading
import time
from contextlib import closing

import pytest

from opencode.changes import AskPermission
from opencode.errors import StoreBusy, StoreDamaged, StoreError
from opencode.provider.port import Text
from opencode.provider.scripted import Wait
from opencode.session.pen import Draft, Pen
from opencode.storage.port import Append, Committed
from opencode.storage.sql import open_store
from tests.contracts.stored import (
    a_session,
    contents,
    numbers,
    read_all,
    started_turn,
    stored_session,
    text,
    texts,
)
from tests.damage import damage, locked
from tests.session.story import DEADLINE_S, OWNER, each, eventually, names

#: Longer than a try, and than any pause between two.
LOCKED_S = 1.5


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "store.sqlite3"


def writers(store):
    """By name, each way to write; all of them can be done at the same time."""
    session, gone = stored_session(store), stored_session(store)
    turn = started_turn(lambda append: store.commit([append])[0], session)
    asked = AskPermission("per_1", session.id, turn.id, "call_1", "bash", {})
    store.commit([Append(session.id, [text()], (asked,), turn=(turn.id, 1))])
    other = stored_session(store)
    lapsed = started_turn(lambda append: store.commit([append])[0], other)
    return {
        "commit": lambda: store.commit([texts(session.id, "x", turn=turn)]),
        "create": lambda: store.create(a_session()),
        "delete": lambda: store.delete(gone.id),
        "claim": lambda: store.claim(lapsed, crashed=True, lease_until=0.0),
        "renew": lambda: store.renew([turn], 0.0),
        "answer": lambda: store.answer("per_1", "once"),
    }


def all_at_once(works):
    """Do them, each in a thread: what came of it, and after how many seconds."""
    found = {}

    def do(name, work):
        began = time.monotonic()
        try:
            outcome = work()
        except StoreError as exc:
            outcome = exc
        found[name] = (outcome, time.monotonic() - began)

    threads = [threading.Thread(target=do, args=item) for item in works.items()]
    for thread in threads:
        thread.start()
    return threads, found


def test_whatever_writes_waits_until_a_locked_store_is_free(store, file):
    works = writers(store)

    with locked(file):
        threads, found = all_at_once(works)
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > LOCKED_S)
        assert found == {}
    for thread in threads:
        thread.join(DEADLINE_S)

    assert found.keys() == works.keys()
    assert [outcome for outcome, _ in found.values() if isinstance(outcome, Exception)] == []


def test_it_does_not_wait_for_ever_and_those_who_wait_do_not_add_up(tmp_path, empty_store, file):
    open_store(None, tmp_path / "data").close()
    store = open_store(None, tmp_path / "data", busy_patience_s=1.5)
    works = writers(store)

    with locked(file):
        threads, found = all_at_once(works)
        for thread in threads:
            thread.join(DEADLINE_S)

    assert {name: type(outcome) for name, (outcome, _) in found.items()} == dict.fromkeys(works, StoreBusy)
    assert min(seconds for _, seconds in found.values()) >= 1.5
    # One after the other, each with a patience of its own, the last would take nine seconds.
    assert max(seconds for _, seconds in found.values()) < 8.0
    store.close()


# One append of many


@pytest.fixture
def poisoned(file, log):
    """The database itself refuses frames with `poison` in them."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        for table in ("events", "pieces"):
            other.execute(
                f"CREATE TRIGGER {table}_refuse BEFORE INSERT ON {table}"
                " WHEN instr(NEW.frames, CAST('poison' AS BLOB)) BEGIN SELECT RAISE(ABORT, 'poison'); END"
            )


def together(log, file, *appends):
    """Submit them so that all go with the same commit: what the log did with each."""
    with locked(file):
        held = log.submit(appends[0])
        eventually(lambda: held.taken)
        rest = [log.submit(append) for append in appends[1:]]
    for pending in (held, *rest):
        assert pending.wait(DEADLINE_S)
    return [pending.outcome for pending in rest]


def test_an_append_that_cannot_be_stored_takes_none_of_the_others_with_it(store, log, file, poisoned):
    first, second = stored_session(store), stored_session(store)
    turns = [started_turn(log.append, session) for session in (first, second)]
    mine, others = turns

    outcomes = together(
        log,
        file,
        texts(first.id, "one", turn=mine),
        texts(first.id, "poison", turn=mine),
        texts(second.id, "two", turn=others),
        texts(first.id, "behind", turn=mine),
        texts(second.id, "three", turn=others),
    )

    # Then only its own turn's later ones fail with it: nothing may be stored behind a gap.
    assert [isinstance(outcome, Committed) for outcome in outcomes] == [False, True, False, True]
    assert contents(read_all(store, first.id))[1:] == ["one"]
    assert contents(read_all(store, second.id))[1:] == ["two", "three"]
    # And the numbers go on without a gap
    log.append(texts(first.id, "again", turn=mine))
    assert numbers(read_all(store, first.id)) == [1, 2, 3]


def test_what_is_queued_behind_a_failing_append_of_the_same_turn_fails_with_it(store, log, file, poisoned):
    session = stored_session(store)
    turn = started_turn(log.append, session)

    with locked(file):
        failing = log.submit(texts(session.id, "poison", turn=turn))
        eventually(lambda: failing.taken)
        behind = log.submit(texts(session.id, "behind", turn=turn))
        beside = log.submit(texts(session.id, "beside"))

    for pending in (failing, behind):
        with pytest.raises(StoreError, match="poison"):
            pending.result()
    assert beside.result().first_seq == 2
    with pytest.raises(StoreError, match="poison"):
        log.submit(texts(session.id, "later", turn=turn), after=behind)


def test_a_turn_whose_text_was_not_stored_writes_nothing_behind_the_gap(store, log, file, poisoned):
    session = stored_session(store)
    turn = started_turn(log.append, session)
    pen = Pen(log, turn, Draft(turn.message_id))
    place = (session.id, (turn.id, turn.attempt))

    with locked(file):
        held = log.submit(texts(session.id, "before", turn=turn))
        eventually(lambda: held.taken)
        pen._last = log.extend(pen._last, *place, text("poison", turn.id))
        log.submit(texts(session.id, "beside"))  # so that what comes next is an append of its own
        pen._last = log.extend(pen._last, *place, text("after", turn.id))

    with pytest.raises(StoreError, match="poison"):
        pen.write(text("end", turn.id))
    assert contents(read_all(store, session.id))[1:] == ["before", "beside"]


def test_what_breaks_while_it_is_numbered_breaks_for_itself_alone(store, log, file):
    session = stored_session(store)

    def broken(_seq):
        raise ValueError("broken")

    outcomes = together(log, file, texts(session.id, "a"), Append(session.id, [broken]), texts(session.id, "b"))

    assert isinstance(outcomes[0], StoreError)
    assert contents(read_all(store, session.id)) == ["a", "b"]


# Damage


def test_a_damaged_store_stops_the_start_and_the_error_names_place_and_fix(tmp_path, empty_store, file, play):
    story = play([[Text("hello")]])
    story.tell(story.session())
    story.stop()
    damage(file)

    for _ in range(2):  # and its folder is let go
        with pytest.raises(StoreDamaged, match=r"store in .*data cannot be opened: .*malformed.*backup"):
            open_store(None, tmp_path / "data", patience_s=0)


def test_damage_to_what_a_start_needs_stops_it(play, file):
    story = play([[Text("hello")]])
    story.tell(story.session())
    story.stop()
    damage(file, "turns_by_state")

    for _ in range(2):  # and its folder is let go
        with pytest.raises(StoreDamaged, match=r"restore .*store\.sqlite3 from a backup"):
            play([])


def test_a_store_that_is_damaged_in_service_ends_its_turns_visibly_and_is_named(play, file):
    # Given a turn in the midst of its answer
    go = threading.Event()
    story = play([[Text("one "), Wait(go), Text("two")]])
    session = story.session()
    turn = story.send(session)
    story.until(turn, "text")
    following = story.sessions.follow(OWNER, session.id, after=0, beat_s=0.5)
    seen = each(following.chunks)
    before = [next(seen) for _ in range(3)]

    # When the store is damaged under it
    damage(file, "events")
    go.set()

    # Then its followers are told by an error that is not in the log, and their streams end
    assert names(before) == ["turn_start", "step", "text"]
    assert list(seen) == []
    assert b"STORE_UNAVAILABLE" in following.tail.failed
    # And the check names it, though what it writes itself is not in the damaged part; what is well still serves
    with pytest.raises(StoreDamaged):
        story.services.checks()["store"]()
    assert story.sessions.store.get(OWNER, session.id).id == session.id
