"""A session that is asked for again is known, and never as it was before."""

import threading

import pytest

from opencode.changes import UpdateSession
from opencode.errors import SessionNotFound
from opencode.storage.known import KnownSessions
from opencode.storage.port import Append
from opencode.storage.sql import open_store
from tests.contracts.stored import a_turn, end, start, stored_session, texts


@pytest.fixture
def store(tmp_path):
    opened = open_store(None, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def statements(store):
    """How many statements the database has been given; the engine tells."""
    from sqlalchemy import event

    counted = []
    event.listen(store.engine, "before_cursor_execute", lambda *told: counted.append(told[2]))
    return counted


def test_a_live_session_is_looked_up_without_the_database(store, statements):
    session = stored_session(store)
    turn = a_turn(session)
    store.commit([start(turn)])
    known = store.get(session.owner, session.id)
    store.commit([texts(session.id, "a word", turn=turn)])
    statements.clear()

    assert store.get(session.owner, session.id) == known
    assert statements == []


def test_whatever_changes_a_session_shows_at_once(store):
    session = stored_session(store)
    turn = a_turn(session)
    seen = [store.get(session.owner, session.id)]
    changes = [
        lambda: store.commit([start(turn)]),
        lambda: store.commit(
            [Append(session.id, [b"event: x\ndata: {}\n\n"], (UpdateSession(session.id, {"title": "New"}),))]
        ),
        lambda: store.commit([end(turn)]),
    ]
    for change in changes:
        change()
        seen.append(store.get(session.owner, session.id))

    assert [found.status for found in seen] == ["idle", "running", "running", "idle"]
    assert [found.title == "New" for found in seen] == [False, False, True, True]
    assert seen[-1].folded_seq == 3
    store.delete(session.id)
    with pytest.raises(SessionNotFound):
        store.get(session.owner, session.id)


def test_a_known_session_is_its_owners_alone(store):
    session = stored_session(store)
    store.get(session.owner, session.id)

    with pytest.raises(SessionNotFound):
        store.get("somebody-else", session.id)


def test_what_was_read_before_a_change_is_not_kept_after_it(store):
    session = store.get("ada", stored_session(store).id)
    known = KnownSessions(10)

    mark = known.mark()
    with known.changing([session.id]):
        # Nor what is read while it changes: another may have read the newer one already
        known.put(session, known.mark())
        assert known.get("ada", session.id) is None
    known.put(session, mark)

    assert known.get("ada", session.id) is None


def test_the_one_that_was_not_asked_for_longest_goes(store):
    first, second, third = (store.get("ada", stored_session(store).id) for _ in range(3))
    known = KnownSessions(2)
    for session in (first, second):
        known.put(session, known.mark())
    known.get("ada", first.id)

    known.put(third, known.mark())

    assert [known.get("ada", session.id) is not None for session in (first, second, third)] == [True, False, True]


def test_readers_beside_a_writer_see_no_title_older_than_one_they_saw(store):
    session = stored_session(store)
    went_back = []

    def read():
        last = 0
        for _ in range(1000):
            title = store.get(session.owner, session.id).title
            now = int(title) if title.isdigit() else 0
            if now < last:
                went_back.append((last, now))
            last = now

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 201):
            change = UpdateSession(session.id, {"title": str(number)})
            store.commit([Append(session.id, [b"event: x\ndata: {}\n\n"], (change,))])
            assert store.get(session.owner, session.id).title == str(number)
    finally:
        for reader in readers:
            reader.join()

    assert went_back == []


def test_text_of_a_stale_attempt_is_refused_on_the_short_way_too_and_takes_no_number(store, statements):
    from opencode.errors import StaleAttempt

    first, second = stored_session(store), stored_session(store)
    stale, current = a_turn(first), a_turn(second)
    store.commit([start(stale), start(current)])
    store.claim(stale, crashed=True, lease_until=0.0)

    refused, stored = store.commit([texts(first.id, "late", turn=stale), texts(second.id, "on", turn=current)])

    assert isinstance(refused, StaleAttempt)
    assert (store.last_seq(first.id), store.last_seq(second.id)) == (1, stored.last_seq)
    statements.clear()
    store.commit([texts(second.id, "alone", turn=current)])
    assert statements == []  # by the driver itself
