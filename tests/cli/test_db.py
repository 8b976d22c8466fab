"""`opencode db`: the store as a whole."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from opencode.cli.main import main
from opencode.records import Prompt
from opencode.session.screen import selected, to_show
from opencode.storage.sql import open_store
from tests.contracts.stored import OWNER, contents, end, read_all, started_turn, stored_session, texts


def opencode(home, *arguments, **variables):
    result = CliRunner().invoke(main, arguments, env={"OPENCODE_DATA_DIR": str(home / "data"), **variables})
    return SimpleNamespace(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def filled(folder):
    """An embedded store with a session in which one turn has ended and another runs."""
    store = open_store(None, folder)

    def commit(append):
        (outcome,) = store.commit([append])
        return outcome

    session = stored_session(store, title="kept \0 whole", tools=("read",), permission={"bash": "ask"})
    turn = started_turn(commit, session)
    commit(texts(session.id, "a", "b\0", turn=turn))
    commit(end(turn))
    commit(texts(session.id, "c", turn=started_turn(commit, session)))
    secret = store.secret("signing", b"of the source")
    shown = [selected((session.id, 1)), to_show("toast", {"message": "hi"})]
    screen = store.change_screen(OWNER, "default", lambda own: (replace(own, prompt=Prompt("typed", 5)), shown))
    store.look_at_screen(screen.after.id, "server-1", 4_000_000_000.0)
    store.close()
    return session, secret


@pytest.mark.live
def test_an_embedded_store_moves_to_postgresql_whole(tmp_path, postgres, postgres_url):
    session, secret = filled(tmp_path / "data")

    copied = opencode(tmp_path, "db", "copy", DATABASE_URL=postgres_url)
    assert (copied.returncode, copied.stderr) == (0, "")
    assert {"1 sessions", "2 turns", "4 messages", "1 screens", "2 screen_events"} <= set(
        copied.stdout.strip().split(", ")
    )

    source, target = open_store(None, tmp_path / "data"), open_store(postgres_url, Path("/unused"))
    try:
        assert read_all(target, session.id) == read_all(source, session.id)
        assert contents(read_all(target, session.id))[1:3] == ["a", "b\0"]
        found = target.get(OWNER, session.id)
        assert (found.title, found.status) == ("kept \0 whole", "running")
        assert found.usage == source.get(OWNER, session.id).usage
        assert target.secret("signing", b"another") == secret
        screen = source.screen(OWNER, "default")
        assert (target.screen(OWNER, "default"), screen.screen.prompt.text) == (screen, "typed")
        events = source.screen_events(screen.screen.id, 0)
        assert (target.screen_events(screen.screen.id, 0), len(events)) == (events, 2)
        assert [turn.id for turn in target.claimable(1.0)] == [turn.id for turn in source.claimable(1.0)]
    finally:
        source.close()
        target.close()
    # And once is enough
    again = opencode(tmp_path, "db", "copy", DATABASE_URL=postgres_url)
    assert again.returncode == 1
    assert "copy into an empty database" in again.stderr
    checked = opencode(tmp_path, "db", "check", DATABASE_URL=postgres_url)
    assert (checked.returncode, "All is well" in checked.stdout) == (0, True), checked.stderr


def test_a_gap_in_a_log_is_found(tmp_path):
    session, _secret = filled(tmp_path / "data")
    assert opencode(tmp_path, "db", "check").returncode == 0
    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite3", isolation_level=None)) as broken:
        broken.execute("DELETE FROM events WHERE first_seq = 2")

    found = opencode(tmp_path, "db", "check")

    assert found.returncode == 1
    assert f"session {session.id}: its log has a gap before event 4" in found.stderr


def test_a_screen_without_its_newest_event_is_found(tmp_path):
    filled(tmp_path / "data")
    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite3", isolation_level=None)) as broken:
        broken.execute("DELETE FROM screen_events WHERE number = 2")

    found = opencode(tmp_path, "db", "check")

    assert found.returncode == 1
    assert "its newest event is missing" in found.stderr


@pytest.mark.live
def test_what_cannot_be_copied_is_said_with_the_fix(tmp_path, postgres_url):
    nothing = opencode(tmp_path, "db", "copy", DATABASE_URL=postgres_url)
    assert (nothing.returncode, "There is no store in" in nothing.stderr) == (1, True)
    nowhere = opencode(tmp_path, "db", "copy")
    assert (nowhere.returncode, "Set DATABASE_URL" in nowhere.stderr) == (1, True)


@pytest.mark.live
def test_an_upgrade_makes_the_schema(tmp_path, postgres):
    name = postgres.database()
    try:
        made = opencode(tmp_path, "db", "upgrade", DATABASE_URL=postgres.url(name))
        assert (made.returncode, made.stderr) == (0, "")
        assert postgres.execute("SELECT count(*) FROM sessions", database=name) == [[(0,)]]
    finally:
        postgres.drop(name)


def test_a_worker_without_what_it_shares_is_refused_with_what_is_missing(tmp_path):
    refused = opencode(tmp_path, "worker")

    assert refused.returncode == 1
    assert "set DATABASE_URL=postgresql://… and REDIS_URL=redis://…" in refused.stderr


def test_servers_that_hand_turns_on_need_somebody_to_hand_them_to(tmp_path):
    refused = opencode(tmp_path, "run", "hello", OPENCODE_TURNS="worker")

    assert refused.returncode != 0
    assert "OPENCODE_TURNS=worker needs" in refused.stderr
