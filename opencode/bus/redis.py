"""The doorbell between processes: Redis or Valkey, by publish and subscribe.

Each process has one connection to listen and one to ring. While Redis is lost, everybody here is rung once a second, so
that they look into the store instead; what could not be rung is rung when it is back.
"""

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from opencode.bus.ears import Ears
from opencode.errors import StoreError
from opencode.redis_client import connect, failures, problem

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_CHANNEL = "opencode:bell:"
#: A channel that everybody listens to, so that a connection always has one.
_ALL = f"{_CHANNEL}all"
_TIMEOUT_S = 3.0
#: A silent connection is asked whether it still stands, and given up after as long again.
_QUIET_S = 5.0
_POLL_S = 1.0
_RETRY_S = 0.5
#: Rings that wait for Redis to come back; beyond them their hearers' own polling must do.
_MISSED = 10_000


class RedisBus(Ears):
    """Serves all processes that are given the same address."""

    def __init__(self, url: str) -> None:
        """`url` is `redis://` or `rediss://` (TLS).

        Raises:
            SettingsError: as `connect`.
        """
        self._failures = failures()
        self._me = uuid4().hex.encode()
        self._redis = connect(url, timeout_s=_TIMEOUT_S)
        super().__init__()
        #: What listens now; None while Redis is lost.
        self._connection: Any = None
        self._sending = threading.Lock()
        self._outgoing: dict[str, None] = {}
        self._work = threading.Condition()
        #: Called with True when Redis is lost, with False when it is back.
        self.on_lost: Callable[[bool], None] = lambda _lost: None
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("bell-ringer", self._ring_all), ("bell-listener", self._listen))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def lost(self) -> bool:
        """Whether Redis is out of reach now."""
        return self._connection is None

    def ring(self, topic: str) -> None:
        """See `port.Bus.ring`: at once here, and a moment later elsewhere."""
        super().ring(topic)
        self.ring_elsewhere(topic)

    def ring_elsewhere(self, topic: str) -> None:
        """See `port.SharedBus.ring_elsewhere`."""
        with self._work:
            if len(self._outgoing) < _MISSED:
                self._outgoing[topic] = None
                self._work.notify()

    def check(self) -> None:
        """Raise `StoreError` where Redis is out of reach."""
        try:
            self._redis.ping()
        except self._failures as exc:
            raise StoreError(f"REDIS_URL is out of reach: {problem(exc)}") from exc

    def close(self) -> None:
        """Wake everyone for the last time and let go."""
        super().close()
        with self._work:
            self._work.notify()
        with self._sending, suppress(*self._failures):
            if self._connection is not None:
                self._connection.send_command("PING", check_health=False)  # its answer wakes the listener
        for thread in self._threads:
            thread.join(_TIMEOUT_S)
        self._redis.close()

    # Ringing

    def _ring_all(self) -> None:
        """What is rung while one round goes out goes with the next, however often it is rung."""
        while True:
            with self._work:
                while not self._outgoing and not self._closed.is_set():
                    self._work.wait()
                topics, self._outgoing = self._outgoing, {}
            if not topics and self._closed.is_set():
                return
            try:
                with self._redis.pipeline(transaction=False) as pipeline:
                    for topic in topics:
                        pipeline.publish(_CHANNEL + topic, self._me)
                    pipeline.execute()
            except self._failures as exc:
                log.debug("bell: not rung: %s", exc)
                if self._closed.wait(_RETRY_S):
                    return
                with self._work:
                    self._outgoing = topics | self._outgoing

    # Listening

    def _begun(self, topic: str) -> None:
        self._tell("SUBSCRIBE", topic)

    def _over(self, topic: str) -> None:
        self._tell("UNSUBSCRIBE", topic)

    def _tell(self, command: str, topic: str) -> None:
        with self._sending:
            # Another may have come or gone in between: what counts is how it is now.
            if self._connection is None or (topic in self.topics()) != (command == "SUBSCRIBE"):
                return
            try:
                self._connection.send_command(command, _CHANNEL + topic)
            except self._failures as exc:
                log.debug("bell: %s failed, the listener makes a new connection: %s", command, exc)

    def _listen(self) -> None:
        lost_since: float | None = None
        while not self._closed.is_set():
            try:
                self._connect()
                if lost_since is not None:
                    log.warning("bell: Redis is back after %.1f s", time.monotonic() - lost_since)
                    lost_since = None
                    self.on_lost(False)
                self._hear()
            except self._failures as exc:
                if not self._closed.is_set() and lost_since is None:
                    lost_since = time.monotonic()
                    log.warning("bell: Redis is lost, the store is polled instead: %s", problem(exc))
                    self.on_lost(True)
            finally:
                self._hang_up()
            self._ring_here()
            self._closed.wait(_POLL_S)

    def _connect(self) -> None:
        connection: Any = self._redis.connection_pool.make_connection()
        connection.connect()
        with self._sending:
            connection.send_command("SUBSCRIBE", _ALL, *(_CHANNEL + topic for topic in self.topics()))
            self._connection = connection

    def _hang_up(self) -> None:
        with self._sending:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(*self._failures):
                    connection.disconnect()

    def _hear(self) -> None:
        asked_at: float | None = None
        connection: Any = self._connection
        while not self._closed.is_set():
            if not connection.can_read(timeout=_QUIET_S):
                if asked_at is not None:
                    raise OSError("it does not answer any more")
                asked_at = time.monotonic()
                with self._sending:
                    connection.send_command("PING", check_health=False)
                continue
            asked_at = None
            kind, channel, said = (*connection.read_response(), b"", b"")[:3]
            # What is subscribed to only now, for the first time or again, may have been rung a moment before.
            if kind == b"subscribe" or (kind == b"message" and said != self._me):
                Ears.ring(self, channel.decode().removeprefix(_CHANNEL))

    def _ring_here(self) -> None:
        for topic in self.topics():
            Ears.ring(self, topic)
