"""Wrong tokens: who sends many is told to wait, longer each time. A right token never passes through here."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opencode.server.reach import Reach

#: Wrong tokens that an address may send before it has to wait.
FREE = 10
#: The first wait; each further wrong token after a wait doubles it.
_FIRST_S = 1.0
_LONGEST_S = 900.0
#: So long after its last wait an address is as good as new.
_FORGOTTEN_S = 900.0
#: Addresses remembered; the longest unseen go first.
_ADDRESSES = 10_000


#: As `Guesses.failed`, by Redis' clock, in milliseconds; who is forgotten expires.
_FAILED = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local free, first, longest, forgotten = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local known = redis.call('HMGET', KEYS[1], 'failures', 'waits_until')
local failures, waits_until = tonumber(known[1] or 0), tonumber(known[2] or 0)
if now < waits_until then return waits_until - now end
failures = failures + 1
local wait = 0
if failures >= free then wait = math.min(longest, first * 2 ^ math.min(failures - free, 30)) end
redis.call('HSET', KEYS[1], 'failures', failures, 'waits_until', string.format('%.0f', now + wait))
redis.call('PEXPIRE', KEYS[1], wait + forgotten)
return 0
"""


@dataclass(slots=True)
class _Guesser:
    failures: int = 0
    waits_until: float = 0.0


class Guesses:
    """Wrong tokens of one server, by network address; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    def __len__(self) -> int:
        return len(self._guessers)

    def failed(self, address: str) -> int:
        """Count a wrong token. 0: it may be called wrong; else whole seconds that its sender is to wait."""
        now = self._clock()
        with self._lock:
            guesser = self._guessers.setdefault(address, _Guesser())
            self._guessers.move_to_end(address)
            if len(self._guessers) > _ADDRESSES:
                self._guessers.popitem(last=False)
            if now < guesser.waits_until:
                return math.ceil(guesser.waits_until - now)
            if now > guesser.waits_until + _FORGOTTEN_S:
                guesser.failures = 0
            guesser.failures += 1
            # Below the limit this is the time of the last failure, from which it is forgotten.
            guesser.waits_until = now + _wait_s(guesser.failures)
            return 0


class SharedGuesses:
    """Wrong tokens of all servers; while Redis is away, each server counts those that it gets."""

    def __init__(self, redis: Any, reach: Reach, alone: Guesses) -> None:
        self._script = redis.register_script(_FAILED)
        self._reach = reach
        self._alone = alone
        self._waits = [FREE, *(round(seconds * 1000) for seconds in (_FIRST_S, _LONGEST_S, _FORGOTTEN_S))]

    def failed(self, address: str) -> int:
        """As `Guesses.failed`."""
        wait_ms = self._reach.ask(
            lambda: int(self._script(keys=[f"opencode:guesses:{address}"], args=self._waits)), otherwise=None
        )
        return self._alone.failed(address) if wait_ms is None else math.ceil(wait_ms / 1000)


def _wait_s(failures: int) -> float:
    if failures < FREE:
        return 0.0
    return min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures - FREE, 30))
