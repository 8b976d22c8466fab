"""Hints that a turn is to be run, as messages of Dramatiq over Redis.

The turn's row is the truth: a hint that is lost delays its turn by a second, and one that comes twice does nothing.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from opencode.redis_client import connect, problem

log = logging.getLogger(__name__)

_QUEUE = "turns"
_ACTOR = "run_turn"
#: A worker that is silent for so long is dead, and its messages go to another.
_HEARTBEAT_MS = 10_000
#: Of 100,000 looks at the queue, how many also look for dead workers; a worker looks several times a second.
_MAINTENANCE = 10_000
_TIMEOUT_S = 2.0
#: What the last hints get when a server stops; see `bus.redis`.
_LAST_S = 0.3
#: How often a worker looks whether it is to stop, and into an empty queue at the least.
_LOOK_MS = 200
#: Hints that wait for Redis; workers find the turns of the others in the store.
_WAITING = 1000


def _broker(url: str) -> Any:
    from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415 - only where turns are handed on

    return RedisBroker(  # type: ignore[no-untyped-call] # dramatiq has no types there
        # Given as a client: beside a URL the broker ignores all options of the connection.
        client=connect(url, timeout_s=_TIMEOUT_S),
        namespace="opencode",
        # No retries and no time limit: both are the turn's own matter.
        middleware=[],
        heartbeat_timeout=_HEARTBEAT_MS,
        maintenance_chance=_MAINTENANCE,
    )


class Tasks:
    """Puts hints into the queue, in a thread of its own: whoever starts a turn does not wait for Redis."""

    def __init__(self, url: str) -> None:
        self._broker = _broker(url)
        self._work = threading.Condition()
        self._waiting: list[tuple[str, str]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="task-hints", daemon=True)
        self._thread.start()

    def put(self, session_id: str, turn_id: str) -> None:
        """Neither blocks nor raises."""
        with self._work:
            if len(self._waiting) < _WAITING:
                self._waiting.append((session_id, turn_id))
                self._work.notify()

    def _run(self) -> None:
        from dramatiq import Message  # noqa: PLC0415 - as above

        while True:
            with self._work:
                while not self._waiting and not self._closed:
                    self._work.wait()
                if not self._waiting:
                    return
                hints, self._waiting = self._waiting, []
            for hint in hints:
                try:
                    message: Any = Message(queue_name=_QUEUE, actor_name=_ACTOR, args=hint, kwargs={}, options={})
                    self._broker.enqueue(message)
                except Exception as exc:  # whatever is wrong with Redis, workers find the turn in the store
                    log.warning("turn %s: no hint could be given, a worker will find it: %s", hint[1], problem(exc))

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify()
        self._thread.join(_LAST_S)
        self._broker.client.connection_pool.disconnect(inuse_connections=False)


class TaskWorker:
    """Hears the hints: calls `run(session_id, turn_id)` in one of `threads` threads, which may take its time."""

    def __init__(self, url: str, run: Callable[[str, str], None], *, threads: int) -> None:
        from dramatiq import Worker, actor  # noqa: PLC0415 - as above

        def run_turn(session_id: str, turn_id: str) -> None:
            try:
                run(session_id, turn_id)
            except Exception:  # the turn's row says what is to be done; the message has no part in it
                log.exception("turn %s could not be taken up", turn_id)

        broker = _broker(url)
        actor(actor_name=_ACTOR, queue_name=_QUEUE, broker=broker)(run_turn)
        self._broker = broker
        self._worker = Worker(broker, worker_threads=threads, worker_timeout=_LOOK_MS)
        self._worker.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Hear no more; what waits is left to others. Where Redis is away, its threads end with the process."""
        try:
            self._worker.stop(timeout=int(timeout_s * 1000))
        except Exception as exc:  # Redis hangs; the turns' rows say what is to be done
            log.warning("hints that are left could not be handed back, workers find their turns: %s", problem(exc))
        self._broker.client.connection_pool.disconnect(inuse_connections=False)
