"""Turns that run in this process: starting and stopping them, their limit of seconds, their leases."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from opencode import telemetry
from opencode.cancel import Cancel
from opencode.errors import RateLimitExceeded, SessionNotFound, StaleAttempt, StoreError, Unavailable
from opencode.records import Turn
from opencode.session.turn import HANDED_BACK, OUT_OF_TIME
from opencode.storage.port import TurnStore

log = logging.getLogger(__name__)

#: How exactly the limit of seconds is kept.
_TICK_S = 0.25


#: What a turn enters while it waits for a person.
Pause = Callable[[], AbstractContextManager[None]]


@dataclass(slots=True)
class _Running:
    turn: Turn
    seconds: Callable[[], float]
    deadline: float
    paused: bool = False
    stored: bool = False
    #: Set while it takes a place: not when it has ended, nor while it waits for a person.
    idle: threading.Event = field(default_factory=threading.Event)
    cancel: Cancel = field(default_factory=Cancel)
    ended: threading.Event = field(default_factory=threading.Event)
    keep: object = None

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Meanwhile no seconds of the turn's are spent; a wait for a person has a time limit of its own."""
        began = self.seconds()
        self.paused = True
        self.idle.set()
        try:
            yield
        finally:
            self.deadline += self.seconds() - began
            self.paused = False
            self.idle.clear()


class Runner:
    """Runs each turn in a thread of its own (a greenlet where the process is patched)."""

    def __init__(
        self,
        work: Callable[[Turn, Cancel, Pause], object],
        store: TurnStore,
        *,
        turn_timeout_s: float,
        lease_s: float,
        max_turns: int | None = None,
        everywhere: bool = False,
        slots: int | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`work` carries out one turn and ends its log; it enters its `Pause` while it waits for a person.

        `max_turns` is how many an owner may have running: here, or `everywhere`. With `slots` no more turns than that
        are taken up from the store; those that wait for a person are not counted.
        `seconds` is the clock that the turns' limit is kept by.
        """
        self._work = work
        self._store = store
        self._timeout_s = turn_timeout_s
        self._seconds = seconds
        self.lease_s = lease_s
        self._max_turns = max_turns
        self._everywhere = everywhere
        #: Alone nobody takes a turn away, so that leases are not asked after each second.
        self._next_renewal = 0.0
        self._slots = slots
        self._hurry = False
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()
        #: Called with a turn that has ended; with one whose store failed under it; and about once a second.
        self.on_end: Callable[[Turn], None] = lambda _turn: None
        self.on_lost: Callable[[Turn], None] = lambda _turn: None
        self.on_tick: Callable[[], None] = lambda: None
        self._clock = threading.Thread(target=self._watch, name="turn-clock", daemon=True)
        self._clock.start()

    def check_open(self) -> None:
        """Raise `Unavailable` while the server stops: no new turn is begun."""
        if self.stopping:
            raise Unavailable("The server is stopping; try again in a moment.", headers={"Retry-After": "2"})

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def alone(self) -> bool:
        """Whether no other process works on turns of this store."""
        return not self._everywhere

    def lease(self) -> float:
        """Until when a turn that is taken now belongs to this process."""
        return time.time() + self.lease_s

    def _new(self, turn: Turn) -> _Running:
        return _Running(turn, self._seconds, self._seconds() + self._timeout_s)

    def check_room(self, owner: str) -> None:
        """Raise `RateLimitExceeded` where the owner has as many running turns as the settings allow."""
        if self._max_turns is None:
            return
        if self.count(owner) >= self._max_turns:
            raise self._full()
        if self._everywhere and self._store.working(owner) >= self._max_turns:
            raise self._full()

    @property
    def full(self) -> bool:
        """Whether as many turns work here as there are slots."""
        with self._lock:
            taken = sum(not running.paused for running in self._running.values())
        return self._slots is not None and taken >= self._slots

    def hurry(self) -> None:
        """Look soon for what is to be stopped or taken up. Neither blocks nor raises."""
        self._hurry = True

    def wait(self, turn_id: str) -> None:
        """Sleep while the turn takes a place here: until it ends, or waits for a person."""
        with self._lock:
            running = self._running.get(turn_id)
        if running is not None:
            running.idle.wait()

    def _full(self) -> RateLimitExceeded:
        return RateLimitExceeded(
            f"{self._max_turns} turns are running already (OPENCODE_MAX_TURNS): wait for one to end.",
            headers={
                "Retry-After": "5",
                "RateLimit-Limit": str(self._max_turns),
                "RateLimit-Remaining": "0",
                "RateLimit-Reset": "5",
            },
        )

    def reserve(self, turn: Turn, *, new: bool = False) -> None:
        """Make room for a turn that is about to be stored, so that an abort finds it from its first event on.

        A new one counts here, where no other can come in between; what was accepted before is not refused.

        Raises:
            Unavailable: the server stops.
            RateLimitExceeded: as `check_room`.
        """
        with self._lock:
            self.check_open()
            if new and self._max_turns is not None and self._count(turn.owner) >= self._max_turns:
                raise self._full()
            self._running[turn.id] = self._new(turn)

    def release(self, turn: Turn) -> None:
        """It was not stored after all."""
        with self._lock:
            running = self._running.pop(turn.id, None)
        if running is not None:
            running.ended.set()
            running.idle.set()

    def start(self, turn: Turn, keep: object = None) -> None:
        """Begin a stored turn, or go on with one; `keep` is held while it runs."""
        with self._lock:
            running = self._running.setdefault(turn.id, self._new(turn))
            running.turn, running.keep, running.stored = turn, keep, True
        if self.stopping:
            # It was stored in the moment of the stop, which may not wait for it: to be handed back and not to crash.
            running.cancel.cancel(HANDED_BACK)
        threading.Thread(
            target=telemetry.carried(self._run), args=(running,), name=f"turn-{turn.id}", daemon=True
        ).start()

    def _run(self, running: _Running) -> None:
        turn = running.turn
        try:
            self._work(turn, running.cancel, running.pause)
        except (StaleAttempt, SessionNotFound) as exc:  # its session may have been deleted as it began
            log.info("turn %s: %s", turn.id, exc)
        except StoreError as exc:
            log.error("turn %s lost its store: %s", turn.id, exc)  # noqa: TRY400 - expected, no trace needed
            self._tell(self.on_lost, turn)
        except Exception:  # a fault in one turn must not pass in silence, nor touch another
            log.exception("turn %s could not be ended", turn.id)
        finally:
            with self._lock:
                self._running.pop(turn.id, None)
            running.ended.set()
            running.idle.set()
        if not self.stopping:
            self._tell(self.on_end, turn)

    @staticmethod
    def _tell(listener: Callable[[Turn], None], turn: Turn) -> None:
        try:
            listener(turn)
        except StoreError as exc:  # the next tick tries again
            log.warning("after turn %s: %s", turn.id, exc)
        except Exception:  # what comes after a turn must not be lost with this thread; the next tick tries again
            log.exception("after turn %s", turn.id)

    def abort(self, turn_id: str, *, reason: str = "aborted", wait_s: float = 10.0) -> bool:
        """Stop a turn and wait until its log has ended; False where it does not run here."""
        with self._lock:
            running = self._running.get(turn_id)
        if running is None:
            return False
        running.cancel.cancel(reason)
        running.ended.wait(wait_s)
        return True

    def cancel_in(self, session_id: str) -> None:
        """Stop what runs in a session, without waiting for it."""
        with self._lock:
            found = [running for running in self._running.values() if running.turn.session_id == session_id]
        for running in found:
            running.cancel.cancel()

    def has(self, turn_id: str) -> bool:
        """Whether the turn runs here."""
        with self._lock:
            return turn_id in self._running

    def count(self, owner: str | None = None) -> int:
        """Turns that run now, of one owner or of everyone."""
        with self._lock:
            return self._count(owner)

    def _count(self, owner: str | None) -> int:
        return sum(owner in {None, running.turn.owner} for running in self._running.values())

    def stop(self, timeout_s: float, waiting: Collection[str] = ()) -> None:
        """Take no more turns; give the running ones `timeout_s` seconds, then hand them back to the store.

        `waiting` turns are handed back at once: they wait for a person, who may take hours.
        """
        with self._lock:
            self._stopping.set()
            left = list(self._running.values())
        for running in left:
            if running.turn.id in waiting:
                running.cancel.cancel(HANDED_BACK)
        deadline = time.monotonic() + timeout_s
        for running in left:
            running.ended.wait(max(0.0, deadline - time.monotonic()))
        self._clock.join(2.0)  # it may have taken up a turn just now
        with self._lock:
            left = list(self._running.values())
        for running in left:
            running.cancel.cancel(HANDED_BACK)
        for running in left:
            running.ended.wait(2.0)

    def _watch(self) -> None:
        next_tick = 0.0
        while not self._stopping.wait(_TICK_S):
            now = self._seconds()
            with self._lock:
                late = [running for running in self._running.values() if not running.paused and running.deadline < now]
            for running in late:
                running.cancel.cancel(OUT_OF_TIME)
            if now >= next_tick or self._hurry:
                self._hurry = False
                next_tick = now + min(1.0, self.lease_s / 3)
                self._tick()

    def _tick(self) -> None:
        with self._lock:
            working = [running for running in self._running.values() if running.stored]
        try:
            if working and (self._everywhere or self._seconds() >= self._next_renewal):
                self._next_renewal = self._seconds() + self.lease_s / 3
                ours = self._store.renew([running.turn for running in working], self.lease())
                for running in working:
                    # One that is not ours any more ends by itself, with its next append; its tools are to end now.
                    if ours.get(running.turn.id, self._everywhere):
                        running.cancel.cancel()
            self.on_tick()
        except StoreError as exc:
            log.warning("leases: %s", exc)
        except Exception:  # the clock must go on, whatever one tick met
            log.exception("a tick of the turn clock failed")
