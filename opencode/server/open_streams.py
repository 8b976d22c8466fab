"""How many streams an owner has open: in this process and, where there are several, in all of them."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Self
from uuid import uuid4

from opencode.server.reach import Reach

#: How often a process renews its counts, and how long they stand without it: as long the streams of one that was
#: killed count for their owner.
_BEAT_S = 2.0
_STANDS_S = 6.0
#: By process, `count:until` of one owner, in milliseconds of Redis' clock. Refused, it changes nothing of ours.
_PUBLISH = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local count, most, stands = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found, total = redis.call('HGETALL', KEYS[1]), count
for i = 1, #found, 2 do
  local others, ends = string.match(found[i + 1], '(%d+):(%d+)')
  if tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], found[i])
  elseif found[i] ~= ARGV[1] then
    total = total + tonumber(others)
  end
end
if most > 0 and total > most then return 0 end
if count == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:%.0f', count, now + stands))
  redis.call('PEXPIRE', KEYS[1], stands)
end
return 1
"""


class OpenStream:
    """A stream that counts until it is closed, once."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close: Callable[[], None] | None = close
        self._handed_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._handed_over:
            self.close()

    def hand_over(self) -> Callable[[], None]:
        """From here the response closes it, by calling what comes back."""
        self._handed_over = True
        return self.close

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()


class OpenStreams:
    """Those of this process, by owner."""

    def __init__(self, most: int | None) -> None:
        """`most` is how many an owner may have; None: any number."""
        self.most = most
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __getitem__(self, owner: str) -> int:
        with self._lock:
            return self._counts[owner]

    def owners(self) -> set[str]:
        """Who has some open."""
        with self._lock:
            return set(self._counts)

    def open(self, owner: str) -> OpenStream | None:
        """Count one more; None where the owner has as many as may be."""
        with self._lock:
            if self.most is not None and self._counts[owner] >= self.most:
                return None
            self._counts[owner] += 1
        return OpenStream(lambda: self._close(owner))

    def _close(self, owner: str) -> None:
        with self._lock:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]


class SharedStreams(OpenStreams):
    """Those of all processes: each publishes its count, for a few seconds. While Redis is away it counts alone."""

    def __init__(self, most: int, redis: Any, reach: Reach) -> None:
        super().__init__(most)
        self._me = uuid4().hex
        self._redis = redis
        self._reach = reach
        self._script = redis.register_script(_PUBLISH)
        #: One question at a time, so that the last answer is of the last count.
        self._asking = threading.Lock()
        self._work = threading.Condition()
        #: Owners of whom Redis holds more than is open here.
        self._fewer: set[str] = set()
        self._publisher: threading.Thread | None = None

    def open(self, owner: str) -> OpenStream | None:
        """As for one process, by one question to Redis; there is none where this process has as many by itself."""
        with self._asking:
            stream = super().open(owner)
            if stream is None:
                return None
            self._keep_publishing()
            if self._reach.ask(lambda: bool(self._publish(owner, self.most or 0)), otherwise=True):
                return stream
            super()._close(owner)
        return None

    def _keep_publishing(self) -> None:
        with self._work:
            if self._publisher is None or not self._publisher.is_alive():
                self._publisher = threading.Thread(target=self._publish_all, name="stream-counts", daemon=True)
                self._publisher.start()

    def _publish(self, owner: str, most: int, redis: Any = None) -> Any:
        arguments = [self._me, self[owner], most, round(_STANDS_S * 1000)]
        return self._script(keys=[f"opencode:streams:{owner}"], args=arguments, client=redis)

    def _close(self, owner: str) -> None:
        """Neither blocks nor raises: streams end in the midst of others' writes."""
        super()._close(owner)
        with self._work:
            self._fewer.add(owner)
            self._work.notify()

    def _publish_all(self) -> None:
        """Renew the counts of this process, and lower them as streams end; until none is open."""
        beat_at = time.monotonic() + _BEAT_S
        while True:
            with self._work:
                owners = self.owners()
                if not self._fewer:
                    if not owners:
                        self._publisher = None
                        return
                    self._work.wait(max(0.0, beat_at - time.monotonic()))
                changed, self._fewer = self._fewer, set()
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + _BEAT_S
                changed |= owners
            with self._asking:
                self._reach.ask(partial(self._publish_each, changed), otherwise=None)

    def _publish_each(self, owners: set[str]) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            for owner in owners:
                self._publish(owner, 0, pipeline)
            pipeline.execute()
