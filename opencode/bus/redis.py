"""The doorbell between processes: Redis or Valkey, by publish and subscribe.

Each process has one connection to listen and one to ring. While Redis is lost, everybody here is rung once a second, so
that they look into the store instead; what could not be rung is rung when it is back.
"""

import logging
import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from opencode.bus.ears import Ears
from opencode.errors import SettingsError, StoreError
from opencode.redis_client import connect, failures, is_untrusted, problem

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
#: How long the start waits to hear whether Redis is who it should be.
_FIRST_S = 1.0
#: What the last rings and the listener get when the bus is closed. A Redis that hangs holds up no stop: what it does
#: not take, others find in the store.
_LAST_S = 0.3
#: Rings that wait for Redis to come back; beyond them their hearers' own polling must do.
_MISSED = 10_000


class RedisBus(Ears):
    """Serves all processes that are given the same address."""

    def __init__(self, url: str) -> None:
        """`url` is `redis://` or `rediss://` (TLS).

        Raises:
            SettingsError: as `connect`; or Redis shows a certificate that is not trusted. If it is away, it may come.
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
        #: Set when the first connection stands, or does not; and why, where that is for the settings to mend.
        self._tried = threading.Event()
        self._untrusted: Exception | None = None
        self._lost_since: float | None = None
        self._told = ""
        #: Called with True when Redis is lost, with False when it is back.
        self.on_lost: Callable[[bool], None] = lambda _lost: None
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("bell-ringer", self._ring_all), ("bell-listener", self._listen))
        ]
        for thread in self._threads:
            thread.start()
        self._settle()

    def _settle(self) -> None:
        self._tried.wait(_FIRST_S)
        if self._untrusted is not None:
            self.close()
            raise SettingsError(f"REDIS_URL: {problem(self._untrusted)}") from self._untrusted

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
        if (connection := self._connection) is not None:
            with suppress(AttributeError, OSError):  # the listener has hung up by itself
                connection._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001 - nothing else wakes who waits for it
        for thread in self._threads:
            thread.join(_LAST_S)

    # Ringing

    def _ring_all(self) -> None:
        try:
            self._ring_until_closed()
        finally:
            self._redis.close()

    def _ring_until_closed(self) -> None:
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
        while not self._closed.is_set() and self._untrusted is None:
            connection: Any = self._redis.connection_pool.make_connection()
            try:
                self._connect(connection)
                self._on_found()
                self._hear(connection)
            except self._failures as exc:
                if not self._closed.is_set():
                    self._on_failure(exc)
            finally:
                self._hang_up(connection)
                self._tried.set()
            self._ring_here()
            self._closed.wait(_POLL_S)

    def _on_found(self) -> None:
        self._tried.set()
        if self._lost_since is not None:
            log.warning("bell: Redis is back after %.1f s", time.monotonic() - self._lost_since)
            self._lost_since = None
            self.on_lost(False)

    def _on_failure(self, exc: Exception) -> None:
        if not self._tried.is_set() and is_untrusted(exc):
            self._untrusted = exc
            return
        why, first = problem(exc), self._lost_since is None
        if first or (is_untrusted(exc) and why != self._told):
            log.warning("bell: Redis is lost, the store is polled instead: %s", why)
            self._told = why
        if first:
            self._lost_since = time.monotonic()
            self.on_lost(True)

    def _connect(self, connection: Any) -> None:
        connection.connect()
        with self._sending:
            connection.send_command("SUBSCRIBE", _ALL, *(_CHANNEL + topic for topic in self.topics()))
            self._connection = connection

    def _hang_up(self, connection: Any) -> None:
        with self._sending:
            self._connection = None
            with suppress(*self._failures):
                connection.disconnect()

    def _hear(self, connection: Any) -> None:
        quiet = select.poll()
        quiet.register(connection._sock, select.POLLIN)  # noqa: SLF001 - redis-py can wait only by reading
        asked = False
        while not self._closed.is_set():
            said = self._read(connection)
            if said is not None:
                asked = False
                self._on_said(said)
            elif not quiet.poll(_QUIET_S * 1000):
                if asked:
                    raise OSError("it does not answer any more")
                asked = True
                with self._sending:
                    connection.send_command("PING", check_health=False)

    def _read(self, connection: Any) -> Any:
        """What has come; None where that is nothing whole. TLS may not be read and written at the same moment."""
        with self._sending:
            try:
                return connection.read_response() if connection.can_read(timeout=0) else None
            except self._failures:
                self._connection = None  # whoever subscribes must not open it anew
                raise

    def _on_said(self, said: Any) -> None:
        kind, channel, sender = (*said, b"", b"")[:3]
        # What is subscribed to only now, for the first time or again, may have been rung a moment before.
        if kind == b"subscribe" or (kind == b"message" and sender != self._me):
            Ears.ring(self, channel.decode().removeprefix(_CHANNEL))

    def _ring_here(self) -> None:
        for topic in self.topics():
            Ears.ring(self, topic)
