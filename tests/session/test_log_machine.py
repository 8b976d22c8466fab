"""The log against a model of it, in random orders of whatever may happen, over every store."""

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from opencode.bus.memory import MemoryBus
from opencode.changes import PutMessages
from opencode.errors import OpenCodeError, SessionBusy, StaleAttempt
from opencode.records import Message, Turn
from opencode.session import fork
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
    stored_session,
    text,
    texts,
)
from tests.session.story import seen

#: Small enough that the newest few events fill it.
TAIL_BYTES = 200

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
in_flight = st.lists(st.lists(words, min_size=1, max_size=3), max_size=6)


@dataclass(eq=False)
class Reader:
    """A client: where it began, what it saw, and its connection, which it makes again after a restart."""

    session_id: str
    began: int
    seen: list[str] = field(default_factory=list)
    chunks: object = None

    @property
    def after(self) -> int:
        return self.began + len(self.seen)


class Sqlite:
    """A store in a folder. It begins with a copy of an empty one: the migrations need not run for every example."""

    def __init__(self, empty):
        self.folder = Path(tempfile.mkdtemp())
        self.life = self.folder / "0"
        shutil.copytree(empty, self.life)

    def open(self):
        return open_store(None, self.life, patience_s=0)

    def crash(self):
        """From here on the store is what a process that dies now would leave: its files as they are."""
        life = self.folder / str(int(self.life.name) + 1)
        shutil.copytree(self.life, life)
        self.life = life

    def remove(self):
        shutil.rmtree(self.folder)


class OnPostgres:
    """A database of its own on a running server."""

    def __init__(self, server):
        self.server = server
        self.name = server.database("template_store")

    def open(self):
        return open_store(self.server.url(self.name), Path("/unused"))

    def crash(self):
        """Every connection breaks, whatever it is doing: a commit may have taken place, but nobody was told."""
        self.server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def remove(self):
        self.server.drop(self.name)


class LogMachine(RuleBasedStateMachine):
    """What is written by session: the contents of its events, None for those without."""

    sessions = Bundle("sessions")
    readers = Bundle("readers")

    def __init__(self, place):
        super().__init__()
        self.place = place
        self.written: dict[str, list[str | None]] = {}
        self.turns: dict[str, Turn] = {}
        self.ended: dict[str, list[Turn]] = {}
        self.keep = []
        self.everyone: list[Reader] = []
        self.open()

    def open(self):
        self.store = self.place.open()
        self.log = EventLog(self.store, MemoryBus(), tail_bytes=TAIL_BYTES)

    def shut(self):
        self.log.close_followers()
        self.log.close()
        self.keep.clear()
        self.store.close()

    def teardown(self):
        self.shut()
        self.place.remove()

    @initialize(target=sessions)
    def begin(self):
        return self.create()

    @precondition(lambda self: len(self.written) < 2)  # few sessions, so that much happens to each
    @rule(target=sessions)
    def create(self):
        session = stored_session(self.store)
        self.written[session.id] = []
        return session.id

    @rule(session_id=sessions, group=st.lists(st.lists(words, min_size=1, max_size=5), min_size=1, max_size=6))
    def append(self, session_id, group):
        pending = [self.log.submit(texts(session_id, *contents_)) for contents_ in group]
        for one, contents_ in zip(pending, group, strict=True):
            if session_id in self.written:
                assert one.result().first_seq == len(self.written[session_id]) + 1
                self.written[session_id] += contents_
            else:
                with pytest.raises(OpenCodeError):
                    one.result()

    @rule(session_id=sessions, refused=words)
    def append_in_vain(self, session_id, refused):
        with pytest.raises(OpenCodeError):
            self.log.append(Append(session_id, [text(refused)], turn=("trn_unknown", 1)))

    @rule(session_id=sessions)
    def append_what_breaks(self, session_id):
        def broken(_seq):
            raise ValueError

        with pytest.raises(OpenCodeError):
            self.log.append(Append(session_id, [text("lost"), broken]))

    @rule(session_id=sessions)
    def hold_the_tail(self, session_id):
        self.keep.append(self.log.tail(session_id))

    @rule()
    def let_go_of_the_tails(self):
        self.keep.clear()

    @rule(target=readers, session_id=sessions, missed=st.integers(0, 9))
    def follow(self, session_id, missed):
        if session_id not in self.written:
            return multiple()
        reader = Reader(session_id, max(0, len(self.written[session_id]) - missed))
        self.everyone.append(reader)
        self.connect(reader)
        return reader

    def connect(self, reader):
        tail = self.log.tail(reader.session_id)
        reader.chunks = self.log.follow(reader.session_id, tail, reader.after, beat_s=0)

    @rule(reader=readers)
    def read_one(self, reader):
        self.take(reader, 1)

    @rule(reader=readers)
    def read_on(self, reader):
        self.take(reader, 10_000)
        if reader.session_id in self.written:
            assert reader.after == len(self.written[reader.session_id])

    def take(self, reader, at_most):
        for _ in range(at_most):
            chunk = next(reader.chunks, None)
            if chunk is None:
                return
            events = seen(chunk.data)
            assert [event.seq for event in events] == list(range(chunk.first_seq, chunk.last_seq + 1))
            assert chunk.first_seq == reader.after + 1
            # It is in the store by now, or was until its session was deleted.
            if reader.session_id in self.written:
                assert self.store.last_seq(reader.session_id) >= chunk.last_seq
            reader.seen += [event.data.get("content") for event in events]

    @rule(reader=consumes(readers))
    def leave(self, reader):
        reader.chunks.close()
        self.everyone.remove(reader)

    @rule(session_id=consumes(sessions))
    def delete(self, session_id):
        self.store.delete(session_id)
        self.log.end(session_id)
        self.written.pop(session_id, None)
        self.turns.pop(session_id, None)
        self.ended.pop(session_id, None)

    # Turns

    @rule(session_id=sessions)
    def start_a_turn(self, session_id):
        if session_id not in self.written:
            return
        turn = a_turn(self.store.get(OWNER, session_id))
        if session_id in self.turns:
            with pytest.raises(SessionBusy):
                self.log.append(start(turn))
            return
        first_seq = self.log.append(start(turn)).first_seq
        assert first_seq == len(self.written[session_id]) + 1
        self.turns[session_id] = replace(turn, first_seq=first_seq)
        self.written[session_id].append(turn.content)

    @rule(session_id=sessions, contents_=st.lists(words, min_size=1, max_size=3))
    def write_in_the_turn(self, session_id, contents_):
        if session_id in self.turns:
            self.log.append(texts(session_id, *contents_, turn=self.turns[session_id]))
            self.written[session_id] += contents_

    @rule(session_id=sessions, crashed=st.booleans())
    def resume(self, session_id, crashed):
        if session_id in self.turns:
            self.claim(session_id, crashed=crashed)

    def claim(self, session_id, *, crashed):
        """Another takes the turn over: once, and whoever had it is refused from then on."""
        before = self.turns[session_id]
        taken = self.store.claim(before, crashed=crashed, lease_until=0.0)
        assert (taken.attempt, taken.crashes) == (before.attempt + 1, before.crashes + crashed)
        assert self.store.claim(before, crashed=crashed, lease_until=0.0) is None
        self.turns[session_id] = taken
        self.refused(before)

    def refused(self, turn):
        for late in (texts(turn.session_id, "late", turn=turn), end(turn)):
            with pytest.raises(StaleAttempt):
                self.log.append(late)

    @rule(session_id=sessions)
    def end_the_turn(self, session_id):
        if session_id in self.turns:
            turn = self.turns.pop(session_id)
            self.log.append(end(turn))
            self.written[session_id].append(None)
            self.ended.setdefault(session_id, []).append(turn)
            self.refused(turn)

    @precondition(lambda self: len(self.written) < 3)
    @rule(target=sessions, session_id=sessions)
    def fork(self, session_id):
        if session_id not in self.written:
            return multiple()
        source, messages, _older = self.store.snapshot(OWNER, session_id, limit=1000)
        forked = fork.copy(source, messages, None)
        first = Append(forked.session.id, [forked.event(source.id).body()], (PutMessages(forked.messages),), folds=True)
        self.store.create(forked.session, None, first)
        self.written[forked.session.id] = [None]
        # Two messages of each turn that has ended.
        assert len(self.messages(forked.session.id)) == 2 * len(self.ended.get(session_id, []))
        self.ended[forked.session.id] = list(self.ended.get(session_id, []))
        return forked.session.id

    def messages(self, session_id) -> list[Message]:
        return self.store.snapshot(OWNER, session_id, limit=1000)[1]

    # Restarts

    @rule(given=in_flight, acknowledged=st.integers(0, 3))
    def crash(self, given, acknowledged):
        """The process dies while appends are on their way: those that were acknowledged or shown stand."""
        pending = []
        for place, contents_ in enumerate(given):
            session_id = sorted(self.written)[place % len(self.written)] if self.written else None
            if session_id is not None:
                append = texts(session_id, *contents_, turn=self.turns.get(session_id))
                pending.append((session_id, contents_, self.log.submit(append)))
        for session_id, contents_, one in pending[:acknowledged]:
            one.result()
            self.written[session_id] += contents_
        for reader in self.everyone:
            self.take(reader, 1)
        self.place.crash()
        self.shut()
        self.open()
        for session_id, written in self.written.items():
            found = contents(read_all(self.store, session_id))
            assert found[: len(written)] == written
            # What was on its way is there from its beginning on, each append whole or not at all.
            lost = [content for own, content, _ in pending[acknowledged:] if own == session_id]
            whole = [list(itertools.chain(*lost[:count])) for count in range(len(lost) + 1)]
            assert found[len(written) :] in whole
            self.written[session_id] = found
        for reader in self.everyone:
            self.connect(reader)
        # Whoever opens the store finds the unfinished turns, and those who worked on them are refused.
        unfinished = {turn.session_id: turn for turn in self.store.claimable(float("inf"))}
        assert unfinished.keys() == self.turns.keys()
        for session_id, turn in unfinished.items():
            assert turn.attempt == self.turns[session_id].attempt
            self.claim(session_id, crashed=True)

    @rule()
    def restart(self):
        self.shut()
        self.open()
        for reader in self.everyone:
            self.connect(reader)

    @invariant()
    def the_store_holds_what_was_written(self):
        for session_id, written in self.written.items():
            found = read_all(self.store, session_id, limit_bytes=300)
            assert numbers(found) == list(range(1, len(written) + 1))
            assert contents(found) == written
            assert self.log.last_seq(session_id) == len(written)
            active = [turn.id for turn in self.store.active_turns(session_id)]
            assert active == [turn.id for turn in (self.turns.get(session_id),) if turn is not None]

    @rule(reader=readers)
    def what_was_seen_is_what_was_written(self, reader):
        if reader.session_id in self.written:
            assert reader.seen == self.written[reader.session_id][reader.began : reader.after]


SETTINGS = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    database=None,
    # Making a failure smaller takes minutes, longer than a test may: take this line out to have it done.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_whatever_happens_the_log_is_what_was_written(empty_store):
    run_state_machine_as_test(lambda: LogMachine(Sqlite(empty_store)), settings=SETTINGS)


@pytest.mark.live
def test_whatever_happens_the_log_on_postgresql_is_what_was_written(postgres):
    run_state_machine_as_test(
        lambda: LogMachine(OnPostgres(postgres)), settings=settings(SETTINGS, max_examples=4, stateful_step_count=25)
    )
