"""SQLite's log is copied into the database beside the loop, and does not grow without end."""

import contextlib
import threading

import pytest
import sqlalchemy as sa

from opencode.errors import StoreError
from opencode.native import NativeThread
from opencode.storage.checkpoints import BACKSTOP_PAGES, COPY_PAGES, Checkpoints
from opencode.storage.sql import open_store
from tests.contracts.stored import contents, read_all, started_turn, stored_session, texts
from tests.live.server import until

_PAGE = 4096


@pytest.fixture
def store(tmp_path):
    store = open_store(None, tmp_path)
    yield store
    store.close()


def begun_anew(folder):
    """How often the log has begun anew (SQLite's file format, section 4.1: the checkpoint's number)."""
    return int.from_bytes((folder / "store.sqlite3-wal").read_bytes()[12:16], "big")


def test_what_is_written_reaches_the_database_long_before_sqlite_itself_would_copy_it(store, tmp_path):
    turn = started_turn(lambda append: store.commit([append])[0], stored_session(store))

    database = tmp_path / "store.sqlite3"
    before = database.stat().st_size

    for _ in range(COPY_PAGES):
        store.commit([texts(turn.session_id, "x" * 100, turn=turn)])

    until(lambda: database.stat().st_size > before + COPY_PAGES * 100, 30, "the first checkpoint")
    assert (tmp_path / "store.sqlite3-wal").stat().st_size < BACKSTOP_PAGES * _PAGE


class Long:
    """A log that is long, though all but the newest of it could have been copied: somebody was reading."""

    def __init__(self, store, thread):
        self.thread = thread
        self.checkpoints = Checkpoints(store.engine, thread, copy_pages=10, long_pages=40)
        self._connection = store.engine.raw_connection()
        with store.engine.connect() as reader:
            reader.exec_driver_sql("SELECT 1 FROM sessions").all()
            reader.exec_driver_sql("CREATE TEMP TABLE held (x)")
            for _ in range(50):
                self.write()
            self.checkpoints.wrote(50)
            thread.call(lambda: None)
        self.write()

    def write(self):
        self.execute("INSERT INTO secrets (name, value) VALUES (hex(randomblob(8)), zeroblob(4096))")

    def execute(self, statement):
        self._connection.driver_connection.execute(statement)

    def close(self):
        self.checkpoints.close()
        self._connection.close()


@pytest.fixture
def long(store):
    long = Long(store, NativeThread())
    yield long
    long.close()


def test_a_log_that_has_become_long_begins_anew(long, tmp_path):
    before = begun_anew(tmp_path)

    long.checkpoints.wrote(1)

    assert begun_anew(tmp_path) == before + 1


def test_a_checkpoint_that_fails_is_told_and_stops_nobody(long, caplog):
    long.execute("ALTER TABLE alembic_version RENAME TO hidden")
    long.checkpoints.wrote(1)
    long.execute("ALTER TABLE hidden RENAME TO alembic_version")

    long.checkpoints.wrote(1)

    assert "a checkpoint failed, the next one tries again: no such table" in caplog.text


@pytest.mark.parametrize(("durability", "elsewhere"), [("process", False), ("power", True)])
def test_a_commit_that_waits_for_the_disk_does_so_in_a_thread_of_the_systems(tmp_path, durability, elsewhere):
    with contextlib.closing(open_store(None, tmp_path, durability=durability)) as store:
        traced = []
        store.engine.dispose()  # so that each connection from here on is traced

        @sa.event.listens_for(store.engine, "connect")
        def trace(connection, _record):
            connection.set_trace_callback(lambda said: traced.append((said, threading.get_native_id())))

        turn = started_turn(lambda append: store.commit([append])[0], stored_session(store))
        store.commit([texts(turn.session_id, "piece", turn=turn)])
        assert contents(read_all(store, turn.session_id))[1:] == ["piece"]

    commits = [thread for said, thread in traced if said == "COMMIT"]
    inserts = {thread for said, thread in traced if said.startswith("INSERT INTO pieces")}
    assert len(commits) >= 3
    assert inserts == {threading.get_native_id()}
    # All but the last, which the closing of the store makes.
    assert {thread != threading.get_native_id() for thread in commits[:3]} == {elsewhere}


def test_a_commit_that_fails_in_another_thread_is_told_and_stores_nothing(tmp_path):
    with contextlib.closing(open_store(None, tmp_path, durability="power")) as store:
        turn = started_turn(lambda append: store.commit([append])[0], stored_session(store))
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE strict (id REFERENCES sessions (id) DEFERRABLE INITIALLY DEFERRED)"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER late AFTER INSERT ON pieces BEGIN INSERT INTO strict VALUES ('nobody'); END"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER later AFTER INSERT ON events BEGIN INSERT INTO strict VALUES ('nobody'); END"
            )

        with pytest.raises(StoreError, match="FOREIGN KEY"):
            store.commit([texts(turn.session_id, "lost", turn=turn)])

        with store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER late")
            connection.exec_driver_sql("DROP TRIGGER later")
        store.commit([texts(turn.session_id, "kept", turn=turn)])
        assert contents(read_all(store, turn.session_id))[1:] == ["kept"]
