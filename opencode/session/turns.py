"""Which turn runs when: starting, queueing, interrupting, and taking up what another life of the server left."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from opencode.bus.port import Bus
from opencode.changes import ActivateTurn, EndTurn, QueueTurn, RememberKey, StartTurn, UpdateSession
from opencode.errors import (
    KeyTaken,
    OpenCodeError,
    SessionBusy,
    SessionNotFound,
    StaleAttempt,
    StoreBusy,
    StoreDamaged,
    StoreError,
    Unavailable,
)
from opencode.records import WORKED_ON_STATES, Session, Turn
from opencode.session.beginning import messages_of, new_turn, placed, title_of, turn_start
from opencode.session.ending import ending
from opencode.session.events import Error
from opencode.session.keys import Key
from opencode.session.log import EventLog
from opencode.session.runner import Runner
from opencode.session.turn import done as turn_done
from opencode.storage.port import Append, Store

log = logging.getLogger(__name__)

WhenBusy = Literal["reject", "queue", "interrupt"]


class Turns:
    """The turns of all sessions."""

    def __init__(
        self,
        store: Store,
        event_log: EventLog,
        runner: Runner,
        bus: Bus,
        *,
        max_attempts: int,
        hand_on: Callable[[Turn], None] | None = None,
    ) -> None:
        """With `hand_on`, turns are stored here and run elsewhere: it gives a hint that there is one."""
        self._store = store
        self._bus = bus
        self._hand_on = hand_on
        self._log = event_log
        self._runner = runner
        self._max_attempts = max_attempts
        self._lost: dict[str, Turn] = {}
        self._lost_lock = threading.Lock()
        #: Turns wait for a place: the next one is for the one that waits longest, whichever is hinted at.
        self._behind = False
        runner.on_end = self._on_end
        runner.on_lost = self._on_lost
        runner.on_tick = self._on_tick
        #: Rung where a turn is to be stopped or taken up by whoever can.
        self._ear = bus.subscribe(_TOPIC, runner.hurry)

    def start(self, session: Session, content: str, model: str, *, when_busy: WhenBusy, key: Key | None) -> Turn:
        """Start a turn, or let it wait: stored when this returns. A known key gives the turn that it was used for.

        Raises:
            SessionBusy: another turn is active and `when_busy` is `reject`, or too many wait.
            IdempotencyConflict: the key was used with another body.
        """
        if key is not None and (known := self.known(session, key)):
            return known
        turn = new_turn(session, content, model, jumps=when_busy == "interrupt")
        remember = (RememberKey(key.remembered(session.owner, session.id, turn.id)),) if key else ()
        try:
            return self._begin(session, turn, remember)
        except KeyTaken:
            return self.start(session, content, model, when_busy=when_busy, key=key)
        except SessionBusy:
            if when_busy == "reject":
                raise
        try:
            self._log.append(Append(session.id, [], (*remember, QueueTurn(replace(turn, state="queued")))))
        except KeyTaken:
            return self.start(session, content, model, when_busy=when_busy, key=key)
        if when_busy == "interrupt":
            for active in self._store.active_turns(session.id):
                self._stop(active)
        self.next_in(session.id)
        return self._store.turn(session.id, turn.id) or turn

    def known(self, session: Session, key: Key) -> Turn | None:
        """The turn that the key was used for, whatever has become of it; `IdempotencyConflict` for another body."""
        found = self._store.remembered(session.owner, key.scope, key.key)
        if found is None:
            return None
        key.check(found)
        return self._store.turn(found.session_id, found.turn_id or "")

    def _begin(self, session: Session, turn: Turn, remember: tuple[Any, ...]) -> Turn:
        # The key first: who comes a moment after its equal is to join it, and not to be told that the session is busy.
        if self._hand_on is not None:
            turn = replace(turn, attempt=0)  # nobody's, until it is claimed
        lease_until = 0.0 if self._hand_on is not None else self._runner.lease()
        changes = (*remember, StartTurn(turn, *messages_of(turn), lease_until=lease_until))
        title = "" if session.title else title_of(turn.content)
        if title:
            changes = (*changes, UpdateSession(session.id, {"title": title}))
        return self._launch(turn, changes, new=True, title=title or None)

    def _launch(self, turn: Turn, changes: tuple[Any, ...], *, new: bool = False, title: str | None = None) -> Turn:
        """Store the turn's first event with its changes, and set it running."""
        # Taken before the first event and held while the turn runs: its followers find the events in memory, even where
        # the session is deleted under them.
        tail = self._log.tail(turn.session_id)
        self._runner.reserve(turn, new=new)
        try:
            committed = self._log.append(Append(turn.session_id, [turn_start(turn, title).body()], changes, folds=True))
        except BaseException:
            self._runner.release(turn)
            raise
        turn = replace(turn, state="running", first_seq=committed.first_seq)
        if self._hand_on is not None:
            self._runner.release(turn)
            self._hand_on(turn)
        else:
            self._runner.start(turn, keep=tail)
        return turn

    def abort(self, session_id: str, turn_id: str | None) -> bool:
        """Stop the running turn, or this one; True when there was one. Its log has ended when this returns."""
        for turn in self._store.active_turns(session_id):
            if turn_id in {None, turn.id} and self._stop(turn):
                # It may have come to its own end in this very moment.
                now = self._store.turn(session_id, turn.id)
                return now is None or now.state not in {"completed", "failed"}
        return any(self._end_queued(turn) for turn in self._store.queued(session_id) if turn.id == turn_id)

    def _stop(self, turn: Turn) -> bool:
        """Stop a turn, wherever it runs, and wait until its log has ended."""
        if self._runner.abort(turn.id):
            return True
        if self._runner.alone:
            return False
        ended = threading.Event()
        unlisten = self._log.listen(turn.session_id, ended.set)
        try:
            self._store.stop(turn.id)
            self._bus.ring(_TOPIC)
            deadline = time.monotonic() + _STOP_S
            while time.monotonic() < deadline:
                now = self._store.turn(turn.session_id, turn.id)
                if now is None or now.ended_at is not None:
                    return True
                ended.wait(_STOP_POLL_S)
                ended.clear()
        finally:
            unlisten()
        return True

    def end_all(self, session_id: str) -> None:
        """Stop all turns of a session, those that wait first, so that none of them begins; each gets its `done`."""
        for turn in self._store.queued(session_id):
            self._end_queued(turn)
        self.abort(session_id, None)

    def _end_queued(self, turn: Turn) -> bool:
        """End a turn that has not begun: it still gets its `turn_start` and `done`."""
        if turn.first_seq:
            claimed = self._store.claim(turn, crashed=False, lease_until=self._runner.lease())
            if claimed is None:
                return False
            self._log.append(ending(self._store, claimed, "aborted", None))
            return True
        turn = placed(turn)
        end = EndTurn(turn.id, turn.message_id, turn.session_id, "aborted", None, turn.usage)
        begin = ActivateTurn(turn, *messages_of(turn), lease_until=0.0, ends=True)

        def done(seq: int) -> bytes:
            return turn_done(replace(turn, first_seq=seq - 1), "aborted", turn.usage, seq)

        try:
            self._log.append(Append(turn.session_id, [turn_start(turn).body(), done], (begin, end)))
        except StaleAttempt:
            return False
        return True

    def next_in(self, session_id: str) -> None:
        """Begin what waits next in the session, where nothing runs."""
        if self._runner.stopping or self._store.active_turns(session_id):
            return
        for turn in self._store.queued(session_id)[:1]:
            (self._hand_on or self._take_up)(turn)

    def hand_over(self) -> None:
        """This process stops, and has handed its turns back: let others take them up at once."""
        self._ear.close()
        self._bus.ring(_TOPIC)

    def take_up(self, session_id: str, turn_id: str) -> None:
        """Somebody hinted at this turn: take it up where nobody works on it and there is room; wait while it works."""
        turn = self._store.turn(session_id, turn_id)
        self._behind |= self._runner.full
        if turn is None or self._behind or self._runner.stopping:
            return
        if turn.state == "queued":
            self.next_in(session_id)
        elif turn.state in WORKED_ON_STATES and turn.lease_until < time.time() and not self._runner.has(turn.id):
            self._take_up(turn)
        self._runner.wait(turn_id)

    def take_up_all(self, *, now: float | None = None) -> None:
        """Take up every turn that nobody works on; at start-up, with `now` in the far future, every unfinished one."""
        for turn in self._store.claimable(time.time() if now is None else now):
            if self._runner.stopping or self._runner.has(turn.id) or turn.id in self._lost:
                continue
            if self._runner.full:
                self._behind = True
                return
            try:
                self._take_up(turn)
            except (StoreBusy, StoreDamaged):
                raise
            except OpenCodeError as exc:  # one that cannot go on must not keep the others from it
                log.warning("turn %s could not be taken up: %s", turn.id, exc)
        self._behind = False

    def _take_up(self, turn: Turn) -> None:
        if not turn.first_seq:
            self._activate(turn)
            return
        crashed = turn.state != "queued" and turn.lease_until > 0.0
        claimed = self._store.claim(turn, crashed=crashed, lease_until=self._runner.lease())
        if claimed is None:
            return
        if claimed.crashes >= self._max_attempts:
            log.warning("turn %s: its server died under it %d times", turn.id, claimed.crashes)
            message = f"The server died {claimed.crashes} times while this turn was running; it is not tried again."
            self._log.append(
                ending(self._store, claimed, "failed", Error(turn_id=turn.id, message=message, code=_INTERRUPTED))
            )
            self.next_in(turn.session_id)
            return
        if turn.stop:
            self._log.append(ending(self._store, claimed, "aborted", None))
            self.next_in(turn.session_id)
            return
        log.info("turn %s goes on, attempt %d", turn.id, claimed.attempt)
        self._runner.start(claimed)

    def _activate(self, turn: Turn) -> None:
        turn = placed(turn)
        # Stale: another turn of the session, or an abort, was faster. Unavailable: the server has begun to stop.
        with suppress(StaleAttempt, Unavailable):
            self._launch(turn, (ActivateTurn(turn, *messages_of(turn), lease_until=self._runner.lease()),))

    def _on_end(self, turn: Turn) -> None:
        self.next_in(turn.session_id)
        if self._behind and not self._runner.stopping:
            self.take_up_all()

    def _on_lost(self, turn: Turn) -> None:
        """The store failed under a turn: its followers are told, and its end is stored when the store is back."""
        self._log.fail(turn.session_id, turn.id)
        with self._lost_lock:
            self._lost[turn.id] = turn

    def _on_tick(self) -> None:
        with self._lost_lock:
            lost = list(self._lost.values())
        for turn in lost:
            error = Error(turn_id=turn.id, message=_STORE_FAILED, code="STORE_UNAVAILABLE")
            try:
                current = self._store.turn(turn.session_id, turn.id)
                if current is not None and current.attempt == turn.attempt and current.ended_at is None:
                    self._log.append(ending(self._store, current, "failed", error))
            except (StaleAttempt, SessionNotFound):
                pass
            except StoreBusy:
                return  # the others would only wait too
            except StoreError:
                continue  # not back yet; the next tick tries again
            with self._lost_lock:
                self._lost.pop(turn.id, None)
            self.next_in(turn.session_id)
        if self._hand_on is None:
            self.take_up_all()


_INTERRUPTED = "TURN_INTERRUPTED"
_STORE_FAILED = "The store failed while this turn was running."
_TOPIC = "turns"
#: How long an abort waits for the end of a turn that runs in another process.
_STOP_S = 10.0
_STOP_POLL_S = 0.5
