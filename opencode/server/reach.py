"""Redis as the limits use it: counts that processes share are asked for while it answers, and left out while not."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from limits.errors import StorageError

from opencode.redis_client import failures, problem

log = logging.getLogger(__name__)

_T = TypeVar("_T")
#: How long Redis is let be after a failure: no request is to wait for it each time.
_REST_S = 2.0
_AWAY = "Redis is out of reach; until it is back each server counts streams and wrong tokens alone, requests not at all"


class Reach:
    """Whether Redis answers now; one for all the counts of an app, so that each failure is waited for once."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures: tuple[type[Exception], ...] = (StorageError, *failures())
        self._clock = clock
        self._rests_until = 0.0
        self._failing = False
        #: Called for each count that is left out.
        self.on_open: Callable[[], None] = lambda: None

    def ask(self, ask: Callable[[], _T], *, otherwise: _T) -> _T:
        """What `ask` says; `otherwise` where Redis is out of reach, or was a moment ago."""
        if self._clock() >= self._rests_until:
            try:
                answer = ask()
            except self._failures as exc:
                self._rests_until = self._clock() + _REST_S
                if not self._failing:
                    log.warning("limits: %s: %s", _AWAY, problem(exc))
                self._failing = True
            else:
                if self._failing:
                    log.warning("limits: Redis is back, limits hold again over all servers")
                self._failing = False
                return answer
        self.on_open()
        return otherwise
