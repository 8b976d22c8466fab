"""What every store promises: numbers without a gap, groups in which each append stands or falls by itself, one view."""

import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from opencode.changes import (
    AskPermission,
    FoldMessage,
    PutFileChanges,
    PutParts,
    PutWebhooks,
    SetTurnState,
    UpdateSession,
)
from opencode.errors import KeyTaken, OpenCodeError, SessionBusy, SessionNotFound, StaleAttempt, StoreError
from opencode.records import RememberedKey, Spending, Usage
from opencode.storage.port import Append, Committed
from opencode.storage.sql import open_store
from tests.contracts.stored import (
    OWNER,
    a_session,
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


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.live)])
def place(request, tmp_path, empty_store):
    """Where a store is: opened as often as a test likes, one at a time."""
    if request.param == "postgresql":
        server, url = request.getfixturevalue("postgres"), request.getfixturevalue("postgres_url")
        return OnPostgres(server, url)
    shutil.copytree(empty_store, tmp_path / "data")
    return Place(tmp_path / "data")


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "store.sqlite3"
        self.store = None

    def open(self, **more):
        self.store = open_store(None, self.folder, patience_s=0, **more)
        return self.store

    def close(self):
        if self.store is not None:
            self.store.close()
            self.store = None

    def execute(self, *statements):
        """Reach into the database from outside, as a fault or another program would."""
        connection = sqlite3.connect(self.file, isolation_level=None)
        try:
            return [connection.execute(statement).fetchall() for statement in statements]
        finally:
            connection.close()

    def refuse_events_of(self, session_id):
        self.execute(
            f"CREATE TRIGGER broken BEFORE INSERT ON events WHEN NEW.session_id = '{session_id}'"
            " BEGIN SELECT RAISE(ABORT, 'disk trouble'); END"
        )

    def refuse_no_more(self):
        self.execute("DROP TRIGGER broken")

    def tables(self):
        ((*names,),) = self.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        return [name for (name,) in names]


class OnPostgres(Place):
    def __init__(self, server, url):
        super().__init__(Path("/unused"))
        self.server, self.url = server, url

    def open(self, **more):
        self.store = open_store(self.url, self.folder, **more)
        return self.store

    def execute(self, *statements):
        return self.server.execute(*statements, database=self.url.rpartition("/")[2])

    def refuse_events_of(self, session_id):
        self.execute(
            "CREATE FUNCTION broken() RETURNS trigger AS $$ BEGIN RAISE 'disk trouble'; END $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER broken BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.session_id = '{session_id}')"
            " EXECUTE FUNCTION broken()",
        )

    def refuse_no_more(self):
        self.execute("DROP FUNCTION broken CASCADE")

    def tables(self):
        ((*names,),) = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [name for (name,) in names]


@pytest.fixture
def store(place):
    yield place.open()
    place.close()


def commit_one(store, append) -> Committed:
    (outcome,) = store.commit([append])
    if isinstance(outcome, OpenCodeError):
        raise outcome
    return outcome


# Numbers


def test_numbers_start_at_one_and_go_on_without_a_gap_in_every_session(store):
    first, second = stored_session(store), stored_session(store)

    commit_one(store, texts(first.id, "a", "b"))
    commit_one(store, texts(second.id, "z"))
    committed = commit_one(store, texts(first.id, "c"))

    assert (committed.first_seq, committed.last_seq) == (3, 3)
    assert numbers(read_all(store, first.id)) == [1, 2, 3]
    assert numbers(read_all(store, second.id)) == [1]
    assert (store.last_seq(first.id), store.last_seq(second.id)) == (3, 1)


def test_a_session_without_events_ends_at_zero(store):
    assert store.last_seq(stored_session(store).id) == 0
    assert store.last_seq("ses_unknown") == 0
    assert store.read("ses_unknown", 0, 100) == []


def test_a_group_of_many_appends_is_numbered_in_its_order(store):
    sessions = [stored_session(store) for _ in range(3)]

    outcomes = store.commit([texts(sessions[n % 3].id, f"{n}a", f"{n}b") for n in range(60)])

    assert [outcome.first_seq for outcome in outcomes] == [1 + 2 * (n // 3) for n in range(60)]
    for n, session in enumerate(sessions):
        found = read_all(store, session.id)
        assert numbers(found) == list(range(1, 41))
        assert contents(found) == [f"{m}{letter}" for m in range(n, 60, 3) for letter in "ab"]


def test_what_is_committed_is_byte_for_byte_what_is_read(store):
    session = stored_session(store)

    outcomes = store.commit([texts(session.id, "one", "two\n\n\u2028"), texts(session.id, "three")])

    assert read_all(store, session.id) == [frame for outcome in outcomes for frame in outcome.frames]


def test_a_body_that_needs_its_number_is_given_it(store):
    session = stored_session(store)
    commit_one(store, texts(session.id, "a", "b"))

    commit_one(store, Append(session.id, [text("c"), lambda seq: text(f"number {seq}")]))

    assert contents(read_all(store, session.id)) == ["a", "b", "c", "number 4"]


# Refusals


def refused_appends(store):
    """One append of every kind that is refused, by what refuses it; all of them carry events and changes."""
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)
    ended_session = stored_session(store)
    ended = started_turn(lambda append: commit_one(store, append), ended_session)
    commit_one(store, end(ended))
    gone_session = stored_session(store)
    gone = started_turn(lambda append: commit_one(store, append), gone_session)
    store.delete(gone_session.id)
    title = (UpdateSession(session.id, {"title": "changed"}),)
    fold = (FoldMessage(turn.id, turn.message_id, "changed", Usage(1, 1)),)
    stale = Append(session.id, [text("no")], fold, turn=(turn.id, 2), folds=True)
    return [
        (session, stale, StaleAttempt),
        (session, Append(session.id, [], fold, turn=(turn.id, 0)), StaleAttempt),
        (ended_session, texts(ended_session.id, "no", turn=ended), StaleAttempt),
        (gone_session, texts(gone_session.id, "no", turn=gone), StaleAttempt),
        (gone_session, texts(gone_session.id, "no", changes=title), SessionNotFound),
        (gone_session, Append(gone_session.id, [], title), SessionNotFound),
        (a_session(), texts("ses_unknown", "no"), SessionNotFound),
        (session, start(a_turn(session)), SessionBusy),
    ]


@pytest.mark.parametrize("which", range(8))
def test_a_refused_append_changes_nothing_and_takes_no_number_and_the_rest_of_its_group_stands(store, which):
    session, refused, reason = refused_appends(store)[which]
    other = stored_session(store)
    before = (read_all(store, session.id), store.last_seq(session.id))
    view = store.snapshot(OWNER, session.id, limit=9) if reason in {SessionBusy, StaleAttempt} and before[1] else None

    outcomes = store.commit([texts(other.id, "a"), refused, texts(other.id, "b"), refused, texts(other.id, "c")])

    assert [type(outcome) for outcome in outcomes] == [Committed, reason, Committed, reason, Committed]
    assert contents(read_all(store, other.id)) == ["a", "b", "c"]
    assert (read_all(store, session.id), store.last_seq(session.id)) == before
    assert view is None or store.snapshot(OWNER, session.id, limit=9) == view


def test_after_a_refusal_the_session_goes_on_with_the_next_number(store):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)

    outcomes = store.commit(
        [
            texts(session.id, "a", turn=turn),
            Append(session.id, [text("stale"), text("stale")], turn=(turn.id, 9)),
            start(a_turn(session)),
            texts(session.id, "b", turn=turn),
        ]
    )

    assert [type(outcome) for outcome in outcomes] == [Committed, StaleAttempt, SessionBusy, Committed]
    found = read_all(store, session.id)
    assert numbers(found) == [1, 2, 3]
    assert contents(found) == ["go", "a", "b"]


def test_the_same_turn_cannot_start_twice_in_one_group(store):
    session = stored_session(store)

    outcomes = store.commit([start(a_turn(session)), start(a_turn(session))])

    assert [type(outcome) for outcome in outcomes] == [Committed, SessionBusy]
    assert len(store.active_turns(session.id)) == 1
    assert store.get(OWNER, session.id).message_count == 2


@pytest.mark.parametrize("state", ["completed", "aborted", "failed"])
def test_a_turn_that_has_ended_makes_room_for_the_next(store, state):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)
    assert store.get(OWNER, session.id).status == "running"

    commit_one(store, end(turn, state))

    assert store.get(OWNER, session.id).status == "idle"
    assert store.active_turns() == []
    assert store.turn(session.id, turn.id).state == state
    assert store.turn(session.id, turn.id).last_seq == store.last_seq(session.id)
    commit_one(store, start(a_turn(session)))


def test_a_body_that_breaks_takes_the_whole_group_with_it_and_frees_its_numbers(store):
    session, other = stored_session(store), stored_session(store)
    commit_one(store, texts(session.id, "a"))

    def broken(_seq):
        raise TypeError("cannot be encoded")

    with pytest.raises(TypeError):
        store.commit([texts(session.id, "lost"), texts(other.id, "lost"), Append(session.id, [broken])])
    commit_one(store, texts(session.id, "b"))
    commit_one(store, texts(other.id, "c"))

    assert list(zip(numbers(read_all(store, session.id)), contents(read_all(store, session.id)), strict=True)) == [
        (1, "a"),
        (2, "b"),
    ]
    assert numbers(read_all(store, other.id)) == [1]


def test_a_database_that_fails_half_way_stores_nothing_of_the_group_and_works_again_afterwards(place, store):
    session, other = stored_session(store), stored_session(store)
    commit_one(store, texts(session.id, "a"))
    place.refuse_events_of(other.id)

    with pytest.raises(StoreError, match="the store failed"):
        store.commit([texts(session.id, "lost"), texts(other.id, "lost"), texts(session.id, "lost")])

    assert contents(read_all(store, session.id)) == ["a"]
    place.refuse_no_more()
    store.commit([texts(session.id, "b"), texts(other.id, "c")])
    assert numbers(read_all(store, session.id)) == [1, 2]
    assert numbers(read_all(store, other.id)) == [1]


# Reading


def test_reading_begins_anywhere_in_a_batch(store):
    session = stored_session(store)
    commit_one(store, texts(session.id, *"abcde"))
    commit_one(store, texts(session.id, *"fgh"))

    for after in range(9):
        found = store.read(session.id, after, 100_000)
        assert "".join(contents(found)) == "abcdefgh"[after:]
        assert numbers(found) == list(range(after + 1, 9))
    assert store.read(session.id, 99, 100_000) == []


def test_reading_gives_at_least_one_event_and_stops_at_about_the_limit(store):
    session = stored_session(store)
    for n in range(20):
        commit_one(store, texts(session.id, f"{n:0>900}"))

    assert numbers(store.read(session.id, 0, 1)) == [1]
    assert numbers(store.read(session.id, 7, 1)) == [8]
    assert 3 <= len(store.read(session.id, 0, 3000)) <= 5
    assert numbers(read_all(store, session.id, limit_bytes=1)) == list(range(1, 21))


def test_a_store_that_is_opened_again_gives_the_same(place):
    store = place.open()
    session = stored_session(store, title="kept", permission={"bash": "ask"}, system="be brief")
    turn = started_turn(lambda append: commit_one(store, append), session)
    part = {"type": "text", "step": 1, "content": "hi", "status": "completed"}
    commit_one(
        store,
        Append(
            session.id,
            [text("hi", turn.id)],
            (PutParts(turn.message_id, ((0, part),)), FoldMessage(turn.id, turn.message_id, "hi", Usage(7, 2, 1))),
            turn=(turn.id, 1),
            folds=True,
        ),
    )
    before = (read_all(store, session.id), store.snapshot(OWNER, session.id, limit=9), store.active_turns())
    place.close()

    store = place.open()

    assert (read_all(store, session.id), store.snapshot(OWNER, session.id, limit=9), store.active_turns()) == before
    assert commit_one(store, texts(session.id, "next", turn=turn)).first_seq == 3
    place.close()


def test_many_threads_that_append_to_many_sessions_leave_no_gap_and_no_double(store):
    sessions = [stored_session(store) for _ in range(5)]
    writers, rounds = 8, 25
    failures = []
    ready = threading.Barrier(writers)

    def write(writer):
        try:
            ready.wait(10)
            for n in range(rounds):
                group = [texts(session.id, f"{writer}:{n}:0", f"{writer}:{n}:1") for session in sessions]
                outcomes = store.commit([*group, texts("ses_unknown", "no")])
                assert [type(outcome) for outcome in outcomes] == [Committed] * 5 + [SessionNotFound]
                store.read(sessions[n % 5].id, n, 500)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    expected = [f"{writer}:{n}:{half}" for writer in range(writers) for n in range(rounds) for half in (0, 1)]
    for session in sessions:
        found = read_all(store, session.id)
        assert numbers(found) == list(range(1, len(expected) + 1))
        assert sorted(contents(found)) == sorted(expected)
        for writer in range(writers):
            own = [content for content in contents(found) if content.startswith(f"{writer}:")]
            assert own == [content for content in expected if content.startswith(f"{writer}:")]


# Sessions


def test_a_session_comes_back_as_it_was_stored(store):
    session = stored_session(
        store, title="T", model="sonnet", tools=("read",), permission={"read": "deny"}, system="S", directory="/srv"
    )

    assert store.get(OWNER, session.id) == session


def test_to_anyone_but_its_owner_a_session_does_not_exist(store):
    session = stored_session(store, title="secret plan", directory="/srv/secret")
    commit_one(store, start(a_turn(session, content="secret words")))

    for ask in (lambda: store.get("eve", session.id), lambda: store.snapshot("eve", session.id, limit=5)):
        with pytest.raises(SessionNotFound) as refusal:
            ask()
        with pytest.raises(SessionNotFound) as unknown:
            store.get("eve", "ses_unknown")
        assert str(refusal.value).replace(session.id, "ID") == str(unknown.value).replace("ses_unknown", "ID")
    assert store.page("eve", limit=5).sessions == []
    assert store.page("eve", limit=5, query="secret").sessions == []
    assert store.projects("eve") == []


def test_sessions_come_newest_first_page_by_page_each_once(store):
    mine = [stored_session(store, title=f"{n}") for n in range(7)]
    stored_session(store, owner="eve")

    seen, cursor, sizes = [], None, []
    while True:
        page = store.page(OWNER, limit=3, cursor=cursor)
        seen += page.sessions
        sizes.append(len(page.sessions))
        cursor = page.next_cursor
        if cursor is None:
            break

    assert [session.id for session in seen] == [session.id for session in reversed(mine)]
    assert sizes == [3, 3, 1]
    assert store.page(OWNER, limit=7).next_cursor is None


def test_a_session_made_between_two_pages_neither_hides_nor_doubles_another(store):
    old = [stored_session(store) for _ in range(4)]
    first = store.page(OWNER, limit=2)

    stored_session(store)
    second = store.page(OWNER, limit=2, cursor=first.next_cursor)

    assert [session.id for session in first.sessions + second.sessions] == [session.id for session in reversed(old)]


def test_search_looks_in_titles_and_messages_whatever_their_case(store):
    by_title = stored_session(store, title="Fix the Parser")
    by_message = stored_session(store)
    commit_one(store, start(a_turn(by_message, content="where is the PARSER?")))
    stored_session(store, title="something else")

    found = store.page(OWNER, limit=9, query="parser").sessions

    assert [session.id for session in found] == [by_message.id, by_title.id]


@pytest.mark.parametrize("mark", ["%", "_", "\\", "/", "'", '"', "*", "?"])
def test_marks_that_mean_something_to_a_database_are_searched_for_as_they_are(store, mark):
    marked = stored_session(store, title=f"50{mark}off")
    stored_session(store, title="50 off")
    stored_session(store, title="anything")

    assert [session.id for session in store.page(OWNER, limit=9, query=mark).sessions] == [marked.id]
    assert [session.id for session in store.page(OWNER, limit=9, query=f"0{mark}O").sessions] == [marked.id]


def test_search_is_paged_like_the_list(store):
    sessions = [stored_session(store, title="wanted" if n % 2 else "other") for n in range(6)]

    first = store.page(OWNER, limit=2, query="wanted")
    second = store.page(OWNER, limit=2, cursor=first.next_cursor, query="wanted")

    assert [session.id for session in first.sessions + second.sessions] == [sessions[n].id for n in (5, 3, 1)]
    assert second.next_cursor is None


def test_projects_are_the_directories_in_the_order_of_their_first_use(store):
    for directory, created_at in (("/b", "2026-01-01"), ("/a", "2026-01-02"), ("/b", "2026-01-03")):
        stored_session(store, directory=directory, created_at=created_at)

    assert store.projects(OWNER) == [("/b", "2026-01-01"), ("/a", "2026-01-02")]


def test_deleting_a_session_removes_all_that_belongs_to_it_and_nothing_else(place, store):
    session, kept = stored_session(store), stored_session(store)
    for owned in (session, kept):
        turn = started_turn(lambda append: commit_one(store, append), owned)
        changes = (
            PutParts(turn.message_id, ((0, {"type": "text"}),)),
            PutFileChanges(owned.id, (("a", None, b"x"),)),
            AskPermission(f"per_{owned.id}", owned.id, turn.id, "call", "bash", {}),
        )
        commit_one(store, Append(owned.id, [text()], changes, turn=(turn.id, 1), folds=True))
    before = table_sizes(place)

    store.delete(session.id)

    after = table_sizes(place)
    assert {name: count for name, count in after.items() if name != "alembic_version"} == {
        name: count // 2 for name, count in before.items() if name != "alembic_version"
    }
    with pytest.raises(SessionNotFound):
        store.get(OWNER, session.id)
    assert store.last_seq(session.id) == 0
    assert store.read(session.id, 0, 100) == []
    assert numbers(read_all(store, kept.id)) == [1, 2]


def table_sizes(place) -> dict[str, int]:
    return {name: place.execute(f"SELECT count(*) FROM {name}")[0][0][0] for name in place.tables()}


def test_a_session_is_stored_with_its_key_once(store):
    session, again = a_session(), a_session()
    key = RememberedKey(owner=OWNER, scope="POST /api/session", key="k", body_hash="h", session_id=session.id)

    store.create(session, key)
    with pytest.raises(KeyTaken):
        store.create(again, replace(key, session_id=again.id))

    assert store.remembered(OWNER, "POST /api/session", "k") == key
    assert store.get(OWNER, session.id) == session
    with pytest.raises(SessionNotFound):
        store.get(OWNER, again.id)


def test_a_lease_is_renewed_by_the_current_attempt_only_and_tells_who_is_to_stop(store):
    session, other = stored_session(store), stored_session(store)
    turns = [started_turn(lambda append: commit_one(store, append), own) for own in (session, other)]
    # What waits longest comes first
    assert [turn.id for turn in store.claimable(100.0)] == [turn.id for turn in turns]

    store.stop(turns[1].id)
    assert store.renew(turns, 200.0) == {turns[0].id: False, turns[1].id: True}
    assert store.claimable(100.0) == []
    taken = store.claim(turns[0], crashed=True, lease_until=50.0)
    assert store.renew(turns, 300.0) == {turns[1].id: True}
    assert [turn.id for turn in store.claimable(100.0)] == [taken.id]
    assert (store.turn(session.id, taken.id).lease_until, store.turn(other.id, turns[1].id).stop) == (50.0, True)
    assert store.working(OWNER) == 2
    assert store.working("eve") == 0


def test_the_ends_of_many_logs_are_told_at_once_and_a_deleted_one_is_missing(store):
    quiet, busy, gone = (stored_session(store) for _ in range(3))
    commit_one(store, texts(busy.id, "a", "b"))
    unknown = [f"ses_unknown_{number}" for number in range(600)]
    assert store.ends([gone.id]) == {gone.id: 0}

    store.delete(gone.id)

    assert store.ends([quiet.id, *unknown, busy.id, gone.id]) == {quiet.id: 0, busy.id: 2}
    assert store.ends([]) == {}


def test_nul_in_what_people_write_is_no_trouble_and_the_log_keeps_it(store):
    session = stored_session(store, title="a\0b")
    turn = started_turn(lambda append: commit_one(store, append), session, content="x\0y")

    assert contents(read_all(store, session.id)) == ["x\0y"]
    assert store.turn(session.id, turn.id).content == "x\0y"
    assert store.get(OWNER, session.id).title == "a\0b"


@pytest.mark.parametrize("text", ["\ufdd0", "\ufdd00", "\ufdd01\0", "\0\ufdd0\0", "\N{SYMBOL FOR NULL}", "\uffff"])
def test_what_stands_for_nul_in_a_database_is_told_from_itself(store, text):
    session = stored_session(store, title=text)

    assert store.get(OWNER, session.id).title == text
    assert [found.id for found in store.page(OWNER, limit=9, query=text).sessions] == [session.id]


def test_deleting_what_is_not_there_is_no_fault(store):
    store.delete("ses_unknown")


# Messages


def test_a_snapshot_gives_the_newest_messages_oldest_first_and_pages_back(store):
    session = stored_session(store)
    turns = []
    for n in range(4):
        turn = started_turn(lambda append: commit_one(store, append), session, content=f"question {n}")
        commit_one(store, end(turn))
        turns.append(turn)
    ids = [message_id for turn in turns for message_id in (turn.user_message_id, turn.message_id)]

    _, newest, older = store.snapshot(OWNER, session.id, limit=3)
    _, middle, still_older = store.snapshot(OWNER, session.id, limit=3, before=newest[0].id)
    _, oldest, none_older = store.snapshot(OWNER, session.id, limit=3, before=middle[0].id)

    assert [message.id for message in oldest + middle + newest] == ids
    assert [older, still_older, none_older] == [True, True, False]
    assert [message.role for message in newest] == ["assistant", "user", "assistant"]
    assert store.snapshot(OWNER, session.id, limit=8)[2] is False


def test_parts_are_put_by_position_and_replaced_there(store):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)
    guard = (turn.id, turn.attempt)

    first, second = {"type": "text", "n": 1}, {"type": "tool", "n": 2}
    commit_one(store, Append(session.id, [], (PutParts(turn.message_id, ((1, second), (0, first))),), turn=guard))
    changed = {"type": "tool", "n": 3}
    commit_one(store, Append(session.id, [], (PutParts(turn.message_id, ((1, changed),)),), turn=guard))

    assert store.message(session.id, turn.message_id).parts == (first, changed)
    assert store.last_seq(session.id) == 1
    assert store.message("ses_other", turn.message_id) is None
    assert store.message(session.id, "msg_unknown") is None


def test_the_folded_number_moves_with_folds_and_only_next_to_them_with_the_sessions_own_events(store):
    session = stored_session(store)

    def folded():
        return store.get(OWNER, session.id).folded_seq

    renamed = Append(session.id, [text("renamed")], (UpdateSession(session.id, {"title": "new"}),))
    commit_one(store, renamed)
    assert folded() == 1  # nothing unfolded stood before it
    turn = started_turn(lambda append: commit_one(store, append), session)
    assert folded() == 2
    commit_one(store, texts(session.id, "a", "b", turn=turn))
    assert folded() == 2
    commit_one(store, renamed)
    assert folded() == 2  # the text before it is in no message yet
    commit_one(store, texts(session.id, "c", turn=turn, folds=True))
    assert folded() == 6
    commit_one(store, renamed)
    assert folded() == store.last_seq(session.id) == 7


def test_ending_a_turn_adds_what_it_spent_to_the_session(store):
    session = stored_session(store)
    for usage in (Usage(10, 5, 3, 100), Usage(1, 1, 0, 50)):
        turn = started_turn(lambda append: commit_one(store, append), session)
        commit_one(store, end(turn, usage=usage))
        assert store.turn(session.id, turn.id).usage == usage
        assert store.message(session.id, turn.message_id).tokens == usage.tokens

    assert store.get(OWNER, session.id).usage == Usage(11, 6, 3, 150)
    assert store.get(OWNER, session.id).message_count == 4


def test_spending_is_counted_step_by_step_and_outlives_the_session(store):
    session, other = stored_session(store), stored_session(store)
    assert store.spent(OWNER, session.id) == (Spending(), Spending())
    turn = started_turn(lambda append: commit_one(store, append), session)

    step = texts(session.id, "a", turn=turn, folds=True)
    step.changes = (FoldMessage(turn.id, turn.message_id, "a", Usage(10, 5, 3, 100)),)
    commit_one(store, step)
    assert store.spent(OWNER, session.id) == (Spending(15, 100), Spending(15, 100))
    commit_one(store, end(turn, usage=Usage(20, 6, 3, 250)))
    assert store.spent(OWNER, session.id) == (Spending(26, 250), Spending(26, 250))
    assert store.get(OWNER, session.id).usage == Usage(20, 6, 3, 250)

    turn = started_turn(lambda append: commit_one(store, append), other)
    commit_one(store, end(turn, usage=Usage(1, 1, 0, 50)))
    store.delete(session.id)
    assert store.spent(OWNER, session.id) == (Spending(), Spending(28, 300))
    assert store.spent(OWNER, other.id) == (Spending(2, 50), Spending(28, 300))
    assert store.spent("bob", other.id) == (Spending(), Spending())


def test_spending_beyond_32_bits_is_counted(store):
    session = stored_session(store)
    for _ in range(2):
        turn = started_turn(lambda append: commit_one(store, append), session)
        commit_one(store, end(turn, usage=Usage(2_000_000_000, 0, 0, 2_000_000_000)))

    assert store.spent(OWNER, session.id)[1] == Spending(4_000_000_000, 4_000_000_000)


def test_a_turn_belongs_to_its_session(store):
    session, other = stored_session(store), stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session, content="what was asked")

    assert store.turn(session.id, turn.id) == turn
    assert store.turn(other.id, turn.id) is None
    assert [active.id for active in store.active_turns()] == [turn.id]
    assert store.active_turns(other.id) == []


def test_a_waiting_turn_is_active_and_shows_in_the_sessions_status(store):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)

    commit_one(store, Append(session.id, [text()], (SetTurnState(turn.id, "waiting"),), turn=(turn.id, 1)))

    assert store.get(OWNER, session.id).status == "waiting"
    assert store.page(OWNER, limit=1).sessions[0].status == "waiting"
    assert [active.state for active in store.active_turns(session.id)] == ["waiting"]
    assert isinstance(store.commit([start(a_turn(session))])[0], SessionBusy)


def test_an_update_changes_the_named_columns_only(store):
    session = stored_session(store, title="old", model="sonnet")

    commit_one(store, Append(session.id, [text()], (UpdateSession(session.id, {"title": "new", "tools": ("grep",)}),)))

    found = store.get(OWNER, session.id)
    assert (found.title, found.tools, found.model) == ("new", ("grep",), "sonnet")


def test_of_a_files_changes_the_first_before_and_the_last_after_are_kept(store):
    session = stored_session(store)

    def change(*changes):
        commit_one(store, Append(session.id, [text()], (PutFileChanges(session.id, changes),)))

    change(("b.txt", b"one", b"two"), ("a.txt", None, b"new"))
    change(("b.txt", b"two", b"three"))
    change(("a.txt", b"new", None), ("b.txt", b"three", b"\0four"))

    assert store.file_changes(session.id) == [("a.txt", None, None), ("b.txt", b"one", b"\0four")]
    assert store.file_changes("ses_unknown") == []


def test_the_first_answer_to_a_permission_request_stands(store):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)
    for name in ("per_1", "per_2"):
        asked = AskPermission(name, session.id, turn.id, "call_1", "bash", {"command": "ls"})
        commit_one(store, Append(session.id, [text()], (asked,), turn=(turn.id, 1)))

    assert store.permission(session.id, "per_1").response is None
    assert store.answer("per_1", "always") is True
    assert store.answer("per_1", "reject") is False

    assert store.permission(session.id, "per_1").response == "always"
    assert store.permission(session.id, "per_1").params == {"command": "ls"}
    assert [asked.id for asked in store.permissions(session.id, response=None)] == ["per_2"]
    assert [asked.id for asked in store.permissions(session.id, response="always")] == ["per_1"]
    assert store.permission("ses_other", "per_1") is None
    assert store.answer("per_unknown", "once") is False


def test_of_many_answers_at_once_exactly_one_wins(store):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)
    asked = AskPermission("per_1", session.id, turn.id, "call_1", "bash", {})
    commit_one(store, Append(session.id, [text()], (asked,), turn=(turn.id, 1)))
    ready = threading.Barrier(6)
    won = []

    def answer(name):
        ready.wait(10)
        if store.answer("per_1", name):
            won.append(name)

    threads = [threading.Thread(target=answer, args=(f"answer {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert won == [store.permission(session.id, "per_1").response]


def test_a_store_that_works_passes_its_check(store):
    store.check()


# Secrets and marks


def test_a_secret_is_what_was_kept_first_also_after_a_restart(place, store):
    assert store.secret("signing", b"first") == b"first"
    assert store.secret("signing", b"second") == b"first"
    assert store.secret("other", b"\x00\xff") == b"\x00\xff"
    place.close()

    assert place.open().secret("signing", b"third") == b"first"


def test_a_mark_is_set_once_and_stands_until_its_time_is_over(place, store):
    assert not store.marked("code:1")
    assert store.mark("code:1", now=100.0, until=160.0) is True
    assert store.mark("code:1", now=101.0, until=500.0) is False
    assert store.marked("code:1")
    place.close()
    store = place.open()
    assert store.marked("code:1")
    assert store.mark("code:1", now=159.0, until=200.0) is False

    store.mark("code:2", now=161.0, until=200.0)

    assert not store.marked("code:1")
    assert store.marked("code:2")


def test_of_many_who_set_one_mark_exactly_one_is_the_first(store):
    ready = threading.Barrier(6)
    first = []

    def mark():
        ready.wait(10)
        first.append(store.mark("code:1", now=0.0, until=60.0))

    threads = [threading.Thread(target=mark) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert sorted(first) == [False] * 5 + [True]


# Webhooks


def test_a_webhook_that_is_due_is_given_to_one_of_those_who_share_the_store(place, store):
    session = stored_session(store)
    turn = started_turn(lambda append: commit_one(store, append), session)
    ending = end(turn)
    ending.changes = (*ending.changes, PutWebhooks(session.id, ("http://a/", "http://b/"), "turn_done", "done"))
    commit_one(store, ending)

    first = store.next_webhook()
    second = store.next_webhook(resting=[first.url])
    assert {first.url, second.url} == {"http://a/", "http://b/"}
    if isinstance(place, OnPostgres):
        later = store.next_webhook()
        assert later.due_at > time.time()  # both are taken, for now

    store.remove_webhook(first.id)
    store.remove_webhook(second.id)
    assert store.next_webhook() is None
