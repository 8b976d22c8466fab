"""The log against a model of it, in random orders of whatever may happen."""

import shutil
import tempfile
from dataclasses import dataclass, field
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
)

from opencode.bus.memory import MemoryBus
from opencode.errors import OpenCodeError
from opencode.session.log import EventLog
from opencode.storage.port import Append
from opencode.storage.sql import open_store
from tests.contracts.stored import contents, numbers, read_all, stored_session, text, texts
from tests.session.story import seen

#: Small enough that the newest few events fill it.
TAIL_BYTES = 200

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


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


@pytest.fixture(autouse=True)
def machine(empty_store):
    """Examples begin with a copy of an empty store: the migrations need not run for every one."""
    LogMachine.empty = empty_store


class LogMachine(RuleBasedStateMachine):
    empty: Path
    sessions = Bundle("sessions")
    readers = Bundle("readers")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.empty, self.folder, dirs_exist_ok=True)
        self.written: dict[str, list[str]] = {}
        self.keep = []
        self.open()

    def open(self):
        self.store = open_store(None, self.folder, patience_s=0)
        self.log = EventLog(self.store, MemoryBus(), tail_bytes=TAIL_BYTES)

    def shut(self):
        self.log.close_followers()
        self.log.close()
        self.keep.clear()
        self.store.close()

    def teardown(self):
        self.shut()
        shutil.rmtree(self.folder)

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
        return self.connect(Reader(session_id, max(0, len(self.written[session_id]) - missed)))

    def connect(self, reader):
        tail = self.log.tail(reader.session_id)
        reader.chunks = self.log.follow(reader.session_id, tail, reader.after, beat_s=0)
        return reader

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
            reader.seen += [event.data["content"] for event in events]

    @rule(reader=consumes(readers))
    def leave(self, reader):
        reader.chunks.close()

    @rule(session_id=consumes(sessions))
    def delete(self, session_id):
        self.store.delete(session_id)
        self.log.end(session_id)
        self.written.pop(session_id, None)

    @rule(every=st.lists(readers, unique=True))
    def restart(self, every):
        self.shut()
        self.open()
        for reader in every:
            self.connect(reader)

    @invariant()
    def the_store_holds_what_was_written(self):
        for session_id, written in self.written.items():
            found = read_all(self.store, session_id, limit_bytes=300)
            assert numbers(found) == list(range(1, len(written) + 1))
            assert contents(found) == written
            assert self.log.last_seq(session_id) == len(written)

    @rule(reader=readers)
    def what_was_seen_is_what_was_written(self, reader):
        if reader.session_id in self.written:
            assert reader.seen == self.written[reader.session_id][reader.began : reader.after]


LogMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    database=None,
    # Making a failure smaller takes minutes, longer than a test may: take this line out to have it done.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestLog = LogMachine.TestCase
