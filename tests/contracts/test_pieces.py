"""Pieces of text on their way to the log's table: wherever they are, the log holds each once and in order."""

import contextlib
import shutil
import sqlite3
import threading
import time

import pytest

from opencode import frames
from opencode.errors import StaleAttempt
from opencode.storage import upkeep
from opencode.storage.sql import open_store
from tests.contracts.stored import end, numbers, read_all, started_turn, stored_session, texts


@pytest.fixture
def store(tmp_path):
    store = open_store(None, tmp_path / "data")
    yield store
    store.close()


def a_turn(store):
    return started_turn(lambda append: store.commit([append])[0], stored_session(store))


def write(store, turns, rounds, *, at_once=1):
    """One piece of each turn in a commit, or several."""
    for number in range(rounds):
        for outcome in store.commit([texts(turn.session_id, f"{number} ", turn=turn) for turn in turns] * at_once):
            assert outcome.frames


def rows(store, table):
    file = store.engine.url.database
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
        return database.execute(f"SELECT session_id, first_seq, last_seq FROM {table} ORDER BY 1, 2").fetchall()


def whole(store, turn, pieces):
    """The log of a turn that has begun, and nothing else in it."""
    found = read_all(store, turn.session_id)
    assert numbers(found) == list(range(1, pieces + 2))
    assert store.last_seq(turn.session_id) == pieces + 1
    return [frames.parse(frame)[2].get("content") for frame in found[1:]]


@pytest.mark.parametrize("rounds", [1, 63, 64, 65, 200])
def test_the_log_reads_the_same_wherever_its_pieces_are(store, rounds):
    turns = [a_turn(store) for _ in range(3)]

    write(store, turns, rounds)

    for turn in turns:
        assert whole(store, turn, rounds) == [f"{number} " for number in range(rounds)]
        for after in {0, 1, rounds // 2, rounds, rounds + 1}:
            assert numbers(read_all(store, turn.session_id, after)) == list(range(after + 1, rounds + 2))
            assert numbers(read_all(store, turn.session_id, after, limit_bytes=1)) == list(range(after + 1, rounds + 2))


def test_many_pieces_become_few_rows(store):
    turns = [a_turn(store) for _ in range(3)]

    write(store, turns, 1000)

    assert len(rows(store, "events")) < 3 * 1000 / 32
    assert len(rows(store, "pieces")) < 3 * 1000 / 2


def test_many_turns_that_began_together_are_not_kept_waiting_for_ever(store):
    turns = [a_turn(store) for _ in range(128)]

    write(store, turns, 90)

    moved = {session_id for session_id, first_seq, _ in rows(store, "events") if first_seq > 1}
    assert moved == {turn.session_id for turn in turns}


def test_what_ends_a_turn_comes_after_all_of_its_pieces(store):
    turn, other = a_turn(store), a_turn(store)
    write(store, [turn, other], 10)

    store.commit([texts(turn.session_id, "last", turn=turn), texts(other.session_id, "more", turn=other), end(turn)])

    assert numbers(read_all(store, turn.session_id)) == list(range(1, 14))
    assert whole(store, other, 11)[-1] == "more"
    assert [row for row in rows(store, "events") if row[0] == turn.session_id][-1][2] == 13


@pytest.mark.parametrize("rounds", [1, 100, 700])
def test_a_store_whose_process_died_has_all_of_it(store, tmp_path, rounds):
    turns = [a_turn(store) for _ in range(3)]
    gone = a_turn(store)
    write(store, [*turns, gone], rounds)
    store.delete(gone.session_id)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("store.sqlite3", "store.sqlite3-wal"):
        shutil.copy(tmp_path / "data" / name, left)

    with contextlib.closing(open_store(None, left)) as again:
        assert rows(again, "pieces") == []
        assert upkeep.faults(again.engine) == []
        write(again, turns, 5)
        for turn in turns:
            assert whole(again, turn, rounds + 5)[: rounds + 1] == [*(f"{number} " for number in range(rounds)), "0 "]


def test_a_store_that_was_closed_has_all_of_it_in_its_log(tmp_path):
    with contextlib.closing(open_store(None, tmp_path / "data")) as store:
        turn = a_turn(store)
        write(store, [turn], 10)
    assert rows(store, "pieces") == []
    assert rows(store, "events")[-1][2] == 11

    with contextlib.closing(open_store(None, tmp_path / "data")) as again:
        assert rows(again, "pieces") == []
        whole(again, turn, 10)


def test_pieces_that_cannot_be_moved_at_a_stop_are_at_the_next_start(tmp_path, caplog):
    with contextlib.closing(open_store(None, tmp_path)) as store:
        turn = a_turn(store)
        write(store, [turn], 10)
        with store.engine.begin() as connection:
            refusal = "BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            connection.exec_driver_sql(f"CREATE TRIGGER broken {refusal}")
    assert "settled at the next start: disk full" in caplog.text
    with contextlib.closing(sqlite3.connect(tmp_path / "store.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM pieces").fetchone() == (10,)
        database.execute("DROP TRIGGER broken")

    with contextlib.closing(open_store(None, tmp_path)) as again:
        whole(again, turn, 10)


def test_nothing_is_left_of_a_deleted_session(store):
    turn, other = a_turn(store), a_turn(store)
    write(store, [turn, other], 10)

    store.delete(turn.session_id)

    assert {row[0] for row in rows(store, "pieces")} == {other.session_id}
    assert read_all(store, turn.session_id) == []
    whole(store, other, 10)


def test_a_turn_that_says_no_more_does_not_keep_the_pieces_of_others(store):
    silent, busy = a_turn(store), a_turn(store)
    write(store, [silent], 1)

    write(store, [busy], 100, at_once=100)

    assert len(rows(store, "pieces")) < 9000
    assert silent.session_id not in {row[0] for row in rows(store, "pieces")}
    whole(store, silent, 1)


def test_a_piece_of_an_attempt_that_was_taken_over_is_refused_and_leaves_the_others(store):
    turn, other = a_turn(store), a_turn(store)
    write(store, [turn, other], 3)
    store.claim(turn, crashed=False, lease_until=0.0)

    refused, stored = store.commit([texts(session.session_id, "late", turn=session) for session in (turn, other)])

    assert isinstance(refused, StaleAttempt)
    assert stored.first_seq == 5
    whole(store, turn, 3)
    whole(store, other, 4)


def test_a_reader_misses_nothing_while_pieces_move(store):
    turn, seen, failed = a_turn(store), [], []

    def read():
        while not seen or seen[-1] < 2001:
            found = numbers(store.read(turn.session_id, seen[-1] if seen else 0, 100_000))
            if found and found[0] != (seen[-1] if seen else 0) + 1:
                failed.append((seen[-1:], found[0]))
            if failed:
                return
            seen.extend(found)
            time.sleep(0)  # a greenlet lets others run

    reader = threading.Thread(target=read)
    reader.start()
    write(store, [turn], 2000)
    reader.join(60)

    assert not failed
    assert seen == list(range(1, 2002))
