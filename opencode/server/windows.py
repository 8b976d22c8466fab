"""The limiter's memory: moving windows, bounded in number, swept without a thread of their own."""

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from limits.storage import MemoryStorage

#: Windows kept at once. What is over goes, the longest unused first: a flood of addresses costs no more than this.
_WINDOWS = 20_000
#: Windows looked at with each new one, the longest unused first: old ones go as fast as new ones come.
_SWEPT = 2
#: What one customer of a provider is given, who could use each address of it once.
_IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def network(address: str | None) -> str:
    """Whom an address stands for: an IPv4 address for itself, also written as IPv6; of IPv6 the /64 around it."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _IPV6_PREFIX), strict=False))


class BoundedMemory(MemoryStorage):
    """As `MemoryStorage`, whose moving windows are without bound, and scanned whole by a timer thread every 10 ms."""

    STORAGE_SCHEME = ["bounded-memory"]  # noqa: RUF012 - as the library declares it

    def __init__(self, uri: str | None = None, *, clock: Callable[[], float] = time.time, **options: Any) -> None:
        """`clock` counts seconds since the epoch."""
        super().__init__(uri, **options)
        self._clock = clock
        self._lock = threading.Lock()
        #: By key: how long its window is, and the times of the hits in it, oldest first.
        self._windows: OrderedDict[str, tuple[int, deque[float]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` hits, where the last `expiry` seconds have room for them."""
        now = self._clock()
        with self._lock:
            if key not in self._windows:
                self._make_room(now)
                self._windows[key] = (expiry, deque())
            self._windows.move_to_end(key)
            hits = self._hits(key, now - expiry)
            if len(hits) + amount > limit:
                return False
            hits.extend([now] * amount)
            return True

    def _hits(self, key: str, begin: float) -> deque[float]:
        hits = self._windows[key][1]
        while hits and hits[0] < begin:
            hits.popleft()
        return hits

    def _make_room(self, now: float) -> None:
        for _ in range(min(_SWEPT, len(self._windows))):
            key, (expiry, hits) = next(iter(self._windows.items()))
            if len(self._windows) < _WINDOWS and hits and hits[-1] >= now - expiry:
                return
            del self._windows[key]

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - the library's signature
        """When the window began, which is its oldest hit, and how many hits are in it."""
        now = self._clock()
        with self._lock:
            hits = self._hits(key, now - expiry) if key in self._windows else deque()
            return (hits[0] if hits else now), len(hits)

    def clear(self, key: str) -> None:
        """Forget one window."""
        super().clear(key)
        with self._lock:
            self._windows.pop(key, None)

    def reset(self) -> int | None:
        """Forget all windows; how many there were."""
        super().reset()
        with self._lock:
            found = len(self._windows)
            self._windows.clear()
        return found
