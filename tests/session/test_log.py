"""The event log: store first, then ring; followers see everything once, in order, at their own pace."""

import gc
import itertools
import sqlite3
import threading
import time
import tracemalloc

import pytest

from opencode.bus.memory import MemoryBus
from opencode.errors import SessionBusy, SessionNotFound, StaleAttempt, StoreError
from opencode.session.log import EventLog
from opencode.storage.port import Append
from opencode.storage.sql import open_store
from tests.contracts.stored import (
    OWNER,
    a_turn,
    contents,
    end,
    numbers,
    read_all,
    start,
    started_turn,
    stored_session,
    text,
    texts,
)
from tests.session.story import DEADLINE_S, each, eventually


class Follower(threading.Thread):
    """Follows in a thread of its own and keeps what it saw; `check` is asked about each chunk as it comes."""

    def __init__(self, log, session, after=0, check=lambda chunk: None, **more):
        super().__init__(daemon=True)
        tail = log.tail(session.id)
        self.chunks = log.follow(session.id, tail, after, **{"beat_s": 0.5} | more)
        self.check = check
        self.seen = []
        self.beats = 0
        self.failure = None
        self.start()

    def run(self):
        try:
            for chunk in self.chunks:
                if chunk is None:
                    self.beats += 1
                    continue
                self.check(chunk)
                self.seen += each([chunk])
        except BaseException as exc:
            self.failure = exc

    def wait_for(self, count):
        eventually(lambda: len(self.seen) >= count or self.failure)
        assert self.failure is None

    def ended(self):
        self.join(DEADLINE_S)
        assert not self.is_alive()
        assert self.failure is None
        return self.seen


def replay(log, session, after=0):
    return list(each(log.follow(session.id, log.tail(session.id), after, beat_s=1, live=False)))


@pytest.fixture
def session(store):
    return stored_session(store)


@pytest.fixture
def small_log(store):
    """A log whose tails hold a few events only."""
    opened = EventLog(store, MemoryBus(), tail_bytes=400)
    yield opened
    opened.close_followers()
    opened.close()


# Store first


def test_what_is_appended_is_numbered_stored_and_returned(log, store, session):
    committed = log.append(texts(session.id, "a", "b"))

    assert (committed.first_seq, committed.last_seq) == (1, 2)
    assert read_all(store, session.id) == committed.frames
    assert log.last_seq(session.id) == 2


def test_no_follower_ever_sees_an_event_that_a_fresh_look_into_the_file_does_not_show(log, store, session, tmp_path):
    # Given followers that look into the database by a connection of their own, at each chunk as it comes
    def check(chunk):
        fresh = sqlite3.connect(tmp_path / "data" / "store.sqlite3")
        (stored,) = fresh.execute("SELECT max(last_seq) FROM events WHERE session_id = ?", [session.id]).fetchone()
        fresh.close()
        assert stored is not None
        assert stored >= chunk.last_seq

    followers = [Follower(log, session, check=check) for _ in range(3)]

    # When several threads append at once
    writers = [
        threading.Thread(target=lambda: [log.append(texts(session.id, "x", "y")) for _ in range(30)]) for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE_S)

    # Then none was ahead of the file, and all saw everything
    for follower in followers:
        follower.wait_for(240)
        assert [event.seq for event in follower.seen] == list(range(1, 241))


def test_appends_of_many_threads_are_all_stored_in_each_threads_own_order(log, store):
    sessions = [stored_session(store) for _ in range(4)]

    def write(writer):
        for n in range(40):
            log.append(texts(sessions[n % 4].id, f"{writer}:{n}"))

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE_S)

    for place, session in enumerate(sessions):
        found = read_all(store, session.id)
        assert numbers(found) == list(range(1, 61))
        for writer in range(6):
            own = [content for content in contents(found) if content.startswith(f"{writer}:")]
            assert own == [f"{writer}:{n}" for n in range(place, 40, 4)]


def test_what_waits_is_extended_and_stored_in_order(log, store, session):
    turn = started_turn(log.append, session)
    pending = None
    for n in range(1000):
        pending = log.extend(pending, session.id, (turn.id, turn.attempt), text(f"{n}", turn.id))

    pending.result()

    found = read_all(store, session.id, after=1)
    assert numbers(found) == list(range(2, 1002))
    assert contents(found) == [f"{n}" for n in range(1000)]


def test_a_refused_append_is_told_to_its_author_and_shown_to_nobody(log, store, session):
    turn = started_turn(log.append, session)
    follower = Follower(log, session)

    with pytest.raises(StaleAttempt):
        log.append(Append(session.id, [text("stale")], turn=(turn.id, 2)))
    with pytest.raises(SessionBusy):
        log.append(start(a_turn(session)))
    with pytest.raises(SessionNotFound):
        log.append(texts("ses_unknown", "x"))
    log.append(texts(session.id, "right", turn=turn))

    follower.wait_for(2)
    assert [(event.seq, event.data["content"]) for event in follower.seen] == [(1, "go"), (2, "right")]


@pytest.fixture
def breakable(tmp_path, session):
    """Make the database refuse what the log writes, and let it again."""

    def execute(statement):
        connection = sqlite3.connect(tmp_path / "data" / "store.sqlite3", isolation_level=None, timeout=5)
        connection.execute(statement)
        connection.close()

    class Breakable:
        def break_(self):
            execute("CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END")

        def mend(self):
            execute("DROP TRIGGER broken")

    return Breakable()


def test_while_the_store_fails_the_author_is_told_nobody_sees_anything_and_afterwards_it_works_again(
    log, store, session, breakable
):
    log.append(texts(session.id, "before"))
    follower = Follower(log, session)
    follower.wait_for(1)

    breakable.break_()
    for _ in range(3):
        with pytest.raises(StoreError):
            log.append(texts(session.id, "lost"))
    assert log.last_seq(session.id) == 1
    breakable.mend()
    log.append(texts(session.id, "after"))

    follower.wait_for(2)
    assert [(event.seq, event.data["content"]) for event in follower.seen] == [(1, "before"), (2, "after")]
    assert contents(read_all(store, session.id)) == ["before", "after"]


def test_a_body_that_cannot_be_encoded_fails_its_author_and_leaves_no_gap(log, store, session):
    log.append(texts(session.id, "before"))

    def broken(_seq):
        raise TypeError("no")

    with pytest.raises(StoreError):
        log.append(Append(session.id, [text("lost"), broken]))
    log.append(texts(session.id, "after"))

    assert numbers(read_all(store, session.id)) == [1, 2]


def test_a_closed_log_has_stored_what_it_took_and_takes_no_more(store, session):
    log = EventLog(store, MemoryBus())
    pending = [log.submit(texts(session.id, f"{n}")) for n in range(50)]

    log.close()

    assert [one.result().first_seq for one in pending] == list(range(1, 51))
    assert len(read_all(store, session.id)) == 50
    with pytest.raises(StoreError, match="closed"):
        log.append(texts(session.id, "late"))


# Following


def test_a_follower_gets_what_is_stored_and_then_what_comes(log, session):
    log.append(texts(session.id, "a", "b", "c"))
    follower = Follower(log, session, after=1)
    follower.wait_for(2)

    log.append(texts(session.id, "d"))

    follower.wait_for(3)
    assert [(event.seq, event.data["content"]) for event in follower.seen] == [(2, "b"), (3, "c"), (4, "d")]


def test_followers_from_every_point_across_the_edge_of_the_tail_see_the_rest_exactly(small_log, store, session):
    # Given a log of which the tail holds the newest few events only
    keep = small_log.tail(session.id)
    for n in range(40):
        small_log.append(texts(session.id, f"{n}"))
    assert keep.after(0) is None
    assert keep.after(38) is not None
    stored = read_all(store, session.id)

    # When followers begin at every point, and more comes
    followers = [Follower(small_log, session, after=after) for after in range(41)]
    for n in range(40, 60):
        small_log.append(texts(session.id, f"{n}"))

    # Then each sees the rest, once and in order
    for after, follower in enumerate(followers):
        follower.wait_for(60 - after)
        assert [event.seq for event in follower.seen] == list(range(after + 1, 61))
        assert [event.data["content"] for event in follower.seen] == [f"{n}" for n in range(after, 60)]
    assert len(stored) == 40


def test_what_a_follower_gets_is_byte_for_byte_what_is_stored(small_log, store, session):
    for n in range(30):
        small_log.append(texts(session.id, f"{n} é\u2028", "\n\n"))

    chunks = list(small_log.follow(session.id, small_log.tail(session.id), 0, beat_s=1, live=False))

    assert b"".join(chunk.data for chunk in chunks) == b"".join(read_all(store, session.id))
    assert all(chunk.last_seq + 1 == after.first_seq for chunk, after in itertools.pairwise(chunks))


def test_many_followers_while_many_write_all_see_the_same(small_log, store, session):
    followers = [Follower(small_log, session) for _ in range(25)]
    writers = [
        threading.Thread(target=lambda: [small_log.append(texts(session.id, "x" * 50)) for _ in range(20)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE_S)
    late = [Follower(small_log, session, after=after) for after in (0, 40, 79, 80)]

    for follower in followers:
        follower.wait_for(80)
        assert [event.seq for event in follower.seen] == list(range(1, 81))
    for follower, after in zip(late, (0, 40, 79, 80), strict=True):
        follower.wait_for(80 - after)
        assert [event.seq for event in follower.seen] == list(range(after + 1, 81))


def test_a_slow_follower_and_many_positions_cost_bounded_memory(log, store, session):
    # Given a log of 4 MB, of which the tail holds half a megabyte, and a follower that stopped after the first event
    keep = log.tail(session.id)
    slow = log.follow(session.id, keep, 0, beat_s=1)
    log.append(texts(session.id, "first"))
    assert next(slow).last_seq == 1
    gc.collect()
    tracemalloc.start()
    for _ in range(400):
        log.append(texts(session.id, *["x" * 1000] * 10))

    # When readers come by at many positions of the tail
    given = 0
    for after in range(3600, 4001):
        follower = log.follow(session.id, keep, after, beat_s=1, live=False)
        given += sum(len(chunk.data) for chunk in follower)
    gc.collect()
    held, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Then a small part of what they were given is kept (some ten tails of 80 MB), and the slow one still misses nothing
    assert held < given / 4
    rest = list(itertools.takewhile(lambda event: event.seq < 4001, each(slow)))
    assert [event.seq for event in rest] == list(range(2, 4001))


def test_an_idle_follower_is_given_a_beat(log, session):
    log.append(texts(session.id, "a"))
    chunks = log.follow(session.id, log.tail(session.id), 0, beat_s=0.01)

    assert next(chunks).last_seq == 1
    assert [next(chunks), next(chunks)] == [None, None]
    log.append(texts(session.id, "b"))
    assert next(chunk for chunk in chunks if chunk is not None).first_seq == 2


def test_with_every_ring_lost_a_follower_is_only_slower(store, session):
    class Deaf(MemoryBus):
        def ring(self, topic):
            pass

    log = EventLog(store, Deaf())
    follower = Follower(log, session, beat_s=0.02)
    eventually(lambda: follower.beats)

    log.append(texts(session.id, "a", "b"))

    follower.wait_for(2)
    log.closing.set()
    assert [event.seq for event in follower.ended()] == [1, 2]
    log.close()


# Where following ends


def test_without_live_it_ends_with_what_is_stored(log, session):
    log.append(texts(session.id, "a", "b"))

    assert [event.seq for event in replay(log, session)] == [1, 2]
    assert replay(log, session, after=2) == []


def test_with_a_turn_it_ends_after_that_turns_done_and_not_after_anothers(log, session):
    first = started_turn(log.append, session)
    log.append(texts(session.id, "a", turn=first))
    log.append(end(first))
    second = started_turn(log.append, session)
    follower = Follower(log, session, turn_id=second.id)
    log.append(texts(session.id, 'event: done\n"turn_id":"x"', turn=second))
    log.append(end(second))
    third = started_turn(log.append, session)

    assert [event.seq for event in follower.ended()] == list(range(1, 7))
    assert third.first_seq == 7
    assert [event.seq for event in Follower(log, session, turn_id=first.id).ended()] == [1, 2, 3]


def test_when_the_session_is_deleted_its_followers_end_at_once_and_others_stay(log, store, session):
    other = stored_session(store)
    followers = [Follower(log, session, beat_s=60) for _ in range(3)]
    bystander = Follower(log, other, beat_s=60)
    log.append(texts(session.id, "a"))
    for follower in followers:
        follower.wait_for(1)
    tail = log.tail(session.id)
    began = time.monotonic()

    store.delete(session.id)
    log.end(session.id)

    for follower in followers:
        assert [event.seq for event in follower.ended()] == [1]
    assert tail.deleted
    assert time.monotonic() - began < DEADLINE_S / 2
    log.append(texts(other.id, "b"))
    bystander.wait_for(1)


def test_a_deletion_between_taking_the_tail_and_following_is_seen(log, store, session):
    tail = log.tail(session.id)
    store.delete(session.id)
    log.end(session.id)

    assert list(log.follow(session.id, tail, 0, beat_s=60)) == []


def test_before_a_deletion_a_follower_that_is_far_behind_is_given_the_rest(small_log, store, session):
    # Given a follower that has the oldest events, and needs the store for the next ones
    for n in range(40):
        small_log.append(texts(session.id, f"{n}"))
    chunks = small_log.follow(session.id, small_log.tail(session.id), 0, beat_s=60)
    seen = each([next(chunks)])

    # When the session is deleted
    def delete():
        small_log.let_catch_up(session.id)
        store.delete(session.id)
        small_log.end(session.id)

    deleting = threading.Thread(target=delete)
    deleting.start()
    deleting.join(0.3)

    # Then it can read on to the end
    assert [event.seq for event in itertools.chain(seen, each(chunks))] == list(range(1, 41))
    deleting.join(DEADLINE_S)
    assert not deleting.is_alive()
    with pytest.raises(SessionNotFound):
        store.get(OWNER, session.id)


def test_a_deletion_does_not_wait_long_for_a_follower_that_does_not_read(small_log, store, session):
    for n in range(40):
        small_log.append(texts(session.id, f"{n}"))
    chunks = small_log.follow(session.id, small_log.tail(session.id), 0, beat_s=60)
    next(chunks)

    began = time.monotonic()
    small_log.let_catch_up(session.id, at_most_s=0.2)

    assert 0.2 <= time.monotonic() - began < DEADLINE_S
    chunks.close()
    small_log.let_catch_up(session.id, at_most_s=3600)


def test_when_the_server_stops_idle_followers_end_at_once_after_what_is_stored(log, session):
    followers = [Follower(log, session, beat_s=60) for _ in range(5)]
    log.append(texts(session.id, "a"))
    began = time.monotonic()

    log.close_followers()

    for follower in followers:
        assert [event.seq for event in follower.ended()] == [1]
    assert time.monotonic() - began < DEADLINE_S / 2
    assert [event.seq for event in Follower(log, session, beat_s=60).ended()] == [1]


def test_a_follower_that_leaves_lets_go_of_the_tail(log, session):
    chunks = log.follow(session.id, log.tail(session.id), 0, beat_s=0.01)
    assert next(chunks) is None

    chunks.close()
    del chunks
    gc.collect()
    log.append(texts(session.id, "a"))

    assert [event.seq for event in replay(log, session)] == [1]


def test_a_log_on_a_store_that_was_opened_again_goes_on_where_it_ended(tmp_path):
    store = open_store(None, tmp_path / "again")
    session = stored_session(store)
    log = EventLog(store, MemoryBus())
    log.append(texts(session.id, "a", "b"))
    log.close()
    store.close()

    store = open_store(None, tmp_path / "again")
    log = EventLog(store, MemoryBus())
    log.append(texts(session.id, "c"))

    assert [(event.seq, event.data["content"]) for event in replay(log, session)] == [(1, "a"), (2, "b"), (3, "c")]
    assert store.get(OWNER, session.id).id == session.id
    log.close()
    store.close()
