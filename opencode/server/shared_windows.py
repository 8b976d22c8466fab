"""Windows of the limiter that several processes share, in Redis; while that is out of reach nobody is limited."""

import time

from limits import RateLimitItem, WindowStats
from limits.strategies import RateLimiter

from opencode.server.reach import Reach


class FailOpen:
    """A strategy that lets everyone pass while its storage fails."""

    def __init__(self, windows: RateLimiter, reach: Reach) -> None:
        self._windows = windows
        self._reach = reach

    def test(self, item: RateLimitItem, *keys: str) -> bool:
        """As the strategy's."""
        return self._reach.ask(lambda: self._windows.test(item, *keys), otherwise=True)

    def hit(self, item: RateLimitItem, *keys: str) -> bool:
        """As the strategy's."""
        return self._reach.ask(lambda: self._windows.hit(item, *keys), otherwise=True)

    def get_window_stats(self, item: RateLimitItem, *keys: str) -> WindowStats:
        """As the strategy's."""
        full = WindowStats(time.time() + item.get_expiry(), item.amount)
        return self._reach.ask(lambda: self._windows.get_window_stats(item, *keys), otherwise=full)
