"""How long to try, and how long to wait in between."""

import random
import time

_FIRST_S = 0.2
_LONGEST_S = 5.0


class Patience:
    """Counts from the first failure after the last success; `seconds` is for how long it lasts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._failures = 0
        self._since: float | None = None

    def renew(self) -> None:
        """Something worked."""
        self._failures = 0
        self._since = None

    def wait(self, *, at_least_s: float = 0.0) -> bool:
        """Wait before the next attempt; at once False where that would be longer than patience lasts.

        The pause doubles with each failure up to five seconds, and is never shorter than what the server asked for. A
        random part comes on top, so that clients which were cut together do not come back together.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
        pause_s = max(at_least_s, min(_LONGEST_S, _FIRST_S * 2.0**self._failures))
        if now + pause_s > self._since + self.seconds:
            return False
        self._failures += 1
        time.sleep(pause_s * random.uniform(1.0, 1.25))  # noqa: S311 - jitter, no secret
        return True
