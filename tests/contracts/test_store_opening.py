"""Opening the store: its schema, its owner, and what is said when it cannot be opened."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from opencode.errors import SettingsError, StoreError
from opencode.records import Spending
from opencode.storage import migrations
from opencode.storage.schema import HEAD, metadata
from opencode.storage.sql import open_store
from tests.contracts.stored import OWNER, stored_session

DEADLINE_S = 10


def open_and_close(folder, **more):
    open_store(None, folder, patience_s=0, **more).close()
    return folder / "store.sqlite3"


def tables_of(engine):
    """Columns, keys and indexes of each table, in no order."""
    found = {}
    with engine.connect() as connection:
        names = [name for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            columns = {tuple(row)[1:] for row in connection.exec_driver_sql(f"PRAGMA table_info({name})")}
            keys = {tuple(row)[2:] for row in connection.exec_driver_sql(f"PRAGMA foreign_key_list({name})")}
            indexes = connection.exec_driver_sql(
                f"SELECT sql FROM sqlite_master WHERE tbl_name = '{name}' AND type = 'index' AND sql IS NOT NULL"
            )
            unique = {tuple(row)[2:] for row in connection.exec_driver_sql(f"PRAGMA index_list({name})")}
            found[name] = (columns, keys, {sql for (sql,) in indexes}, unique)
    return found


def test_a_store_in_a_folder_that_others_may_enter_is_its_users_alone(tmp_path):
    folder = tmp_path / "made by an installer"
    folder.mkdir(mode=0o755)

    store = open_store(None, folder, patience_s=0)
    try:
        stored_session(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        store.close()

    assert modes == dict.fromkeys(("lock", "store.sqlite3", "store.sqlite3-shm", "store.sqlite3-wal"), 0o600)


def test_the_migrations_lead_to_the_schema(tmp_path):
    migrated = sa.create_engine(f"sqlite:///{tmp_path / 'migrated.sqlite3'}")
    made = sa.create_engine(f"sqlite:///{open_and_close(tmp_path)}")
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])

    with migrated.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
        connection.commit()
        difference = compare_metadata(MigrationContext.configure(connection), metadata)
    found, wanted = tables_of(migrated), tables_of(made)

    assert difference == []
    assert found == wanted
    assert "alembic_version" in found
    migrated.dispose()
    made.dispose()


def test_what_was_spent_before_it_was_counted_by_owner_is_counted(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    row = "(id, owner, title, resolved_model, tools, directory, permission, created_at, input, output, turn_ms)"
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for number, owner in enumerate([OWNER, OWNER, "bob"]):
            values = f"('s{number}', '{owner}', '', 'm', '[]', '/', '{{}}', 'now', 10, 5, 100)"
            connection.execute(sa.text(f"INSERT INTO sessions {row} VALUES {values}"))
        connection.commit()
    engine.dispose()

    store = open_store(None, tmp_path)
    try:
        assert store.spent(OWNER, "s0") == (Spending(15, 100), Spending(30, 200))
        assert store.spent("bob", "s2") == (Spending(15, 100), Spending(15, 100))
    finally:
        store.close()


def test_head_is_the_newest_migration(tmp_path):
    config = Config()
    config.set_main_option("script_location", str(next(iter(migrations.__path__))))

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
    connection = sqlite3.connect(open_and_close(tmp_path))
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    connection.close()


@pytest.mark.parametrize("store", ["new", "current"])
def test_a_store_that_needs_no_upgrade_is_opened_without_alembic(tmp_path, store):
    if store == "current":
        open_and_close(tmp_path)
    code = """
        import sys
        from pathlib import Path
        from opencode.storage.sql import open_store
        open_store(None, Path(sys.argv[1])).close()
        print(sorted(name for name in sys.modules if name.split(".")[0] in ("alembic", "mako")))
    """

    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "[]"


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    file = open_and_close(tmp_path)
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    with pytest.raises(StoreError, match=rf"schema 9999, newer than this version's {HEAD}.*upgrade"):
        open_store(None, tmp_path, patience_s=0)

    connection = sqlite3.connect(file)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()
    with pytest.raises(StoreError, match="9999"):  # and its folder is free again: no word of a process that holds it
        open_store(None, tmp_path, patience_s=0)


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_the_folder_is_private_and_the_file_in_write_ahead_mode(tmp_path, durability, synchronous):
    folder = tmp_path / "a" / "b"
    store = open_store(None, folder, durability=durability)

    with store.engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    store.close()

    assert pragmas == ["wal", synchronous, 1]
    assert folder.stat().st_mode & 0o077 == 0


def test_a_given_address_is_opened_instead_of_the_data_folder(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'x' / 'own.db'}", tmp_path / "unused")
    session = stored_session(store)
    store.close()

    store = open_store(f"sqlite:///{tmp_path / 'x' / 'own.db'}", tmp_path / "unused")

    assert store.get(OWNER, session.id).id == session.id
    assert not (tmp_path / "unused").exists()
    store.close()


# One owner

HOLDER = """
    import os, sys, time
    from pathlib import Path
    from opencode.storage.sql import open_store
    store = open_store(None, Path(sys.argv[1]))
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder_of(folder):
    """Another process that owns the folder until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().strip() == str(process.pid)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_waits_and_is_then_refused_with_the_pid_of_the_first(tmp_path):
    with holder_of(tmp_path) as holder:
        began = time.monotonic()
        with pytest.raises(StoreError, match=rf"process {holder.pid}\b.*OPENCODE_DATA_DIR=") as refusal:
            open_store(None, tmp_path, patience_s=0.2)

    assert time.monotonic() - began >= 0.2
    assert str(tmp_path) in str(refusal.value)


def test_the_folder_of_a_killed_process_is_free_at_once_and_a_waiting_one_gets_it(tmp_path):
    opened = []
    with holder_of(tmp_path) as holder:
        waiting = threading.Thread(target=lambda: opened.append(open_store(None, tmp_path, patience_s=DEADLINE_S)))
        waiting.start()
        os.kill(holder.pid, signal.SIGKILL)
        waiting.join(DEADLINE_S)

    opened[0].check()
    opened[0].close()


def test_within_one_process_too_only_one_store_owns_the_folder(tmp_path):
    first = open_store(None, tmp_path)

    with pytest.raises(StoreError, match=f"process {os.getpid()}"):
        open_store(None, tmp_path, patience_s=0)

    first.close()
    open_and_close(tmp_path)


def test_a_program_that_a_server_started_does_not_keep_its_folder(tmp_path):
    store = open_store(None, tmp_path)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        store.close()
        open_and_close(tmp_path)
    finally:
        child.kill()
        child.wait()


# What cannot be opened


@pytest.mark.parametrize(
    "url",
    [
        "notaurl",
        "http://host:abc/",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "mysql://user:hunter2@host/db",
        "sqlite://user:hunter2@host/db",
        "sqlite+aiosqlite:////tmp/x.db",
        "sqlite+nothing:////tmp/x.db",
        "sqlite:////tmp/x.db?timeout=hunter2",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_malformed_address_is_refused_with_the_form_it_should_have_and_no_secret(tmp_path, url):
    with pytest.raises(SettingsError, match=r"DATABASE_URL.*sqlite:////.*store\.sqlite3") as refusal:
        open_store(url, tmp_path, patience_s=0)

    assert "hunter2" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(
        StoreError, match=r"data folder .*/file/data cannot be used: Not a directory.*OPENCODE_DATA_DIR"
    ):
        open_store(None, tmp_path / "file" / "data", patience_s=0)


def test_a_file_that_is_no_database_is_said_so_and_its_folder_let_go(tmp_path):
    (tmp_path / "store.sqlite3").write_bytes(b"no database " * 1000)

    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be opened: file is not a database"):
            open_store(None, tmp_path, patience_s=0)


def test_a_connection_that_is_in_use_while_the_store_closes_is_closed_when_it_is_given_back(tmp_path, postgres_url):
    store = open_store(postgres_url, tmp_path)
    with store.engine.connect() as used:
        connection = used.connection.driver_connection
        store.close()
        assert not connection.closed

    assert connection.closed
    with store.engine.connect() as late:
        connection = late.connection.driver_connection
    assert connection.closed
