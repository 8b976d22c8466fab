"""Windows of the limiter that several processes share, in Redis; while that is out of reach nobody is limited."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from limits import RateLimitItem, WindowStats
from limits.errors import StorageError
from limits.strategies import RateLimiter

log = logging.getLogger(__name__)

_T = TypeVar("_T")
#: How long Redis may take to count, and how long it is let be after a failure: no request is to wait for it each time.
TIMEOUT_S = 0.5
_REST_S = 2.0


def storage(url: str) -> tuple[str, dict[str, Any]]:
    """The address of the limiter's storage and its options."""
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "wrap_exceptions": True,
    }
    return url.replace("valkey", "redis", 1), options


class FailOpen:
    """A strategy that lets everyone pass while its storage fails."""

    def __init__(self, windows: RateLimiter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._windows = windows
        self._clock = clock
        self._rests_until = 0.0
        self._failing = False
        #: Called for each request that passes uncounted.
        self.on_open: Callable[[], None] = lambda: None

    def test(self, item: RateLimitItem, *keys: str) -> bool:
        """As the strategy's."""
        return self._ask(lambda: self._windows.test(item, *keys), otherwise=True)

    def hit(self, item: RateLimitItem, *keys: str) -> bool:
        """As the strategy's."""
        return self._ask(lambda: self._windows.hit(item, *keys), otherwise=True)

    def get_window_stats(self, item: RateLimitItem, *keys: str) -> WindowStats:
        """As the strategy's."""
        full = WindowStats(time.time() + item.get_expiry(), item.amount)
        return self._ask(lambda: self._windows.get_window_stats(item, *keys), otherwise=full)

    def _ask(self, ask: Callable[[], _T], *, otherwise: _T) -> _T:
        if self._clock() >= self._rests_until:
            try:
                answer = ask()
            except StorageError as exc:
                self._rests_until = self._clock() + _REST_S
                if not self._failing:
                    log.warning("limits: Redis is out of reach, nobody is limited until it is back: %s", exc)
                self._failing = True
            else:
                if self._failing:
                    log.warning("limits: Redis is back, limits hold again")
                self._failing = False
                return answer
        self.on_open()
        return otherwise
