"""A process that runs turns and serves nobody."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from opencode.bus.tasks import TaskWorker
from opencode.settings import Settings
from opencode.wiring import Services, build_services

#: What threads that hear hints get to end in, once all else has ended.
_HINTS_S = 1.0


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """Runs turns until it is stopped."""

    services: Services
    tasks: TaskWorker

    def stop(self, timeout_s: float) -> None:
        """Let turns end within `timeout_s` seconds; the rest is handed back, for another worker to go on with."""
        hints = threading.Thread(target=self.tasks.close, name="hints-end", daemon=True)
        hints.start()  # meanwhile: it waits for threads that sleep while they have nothing to do
        self.services.stop(timeout_s)
        hints.join(_HINTS_S)


def start_worker(settings: Settings, environ: Mapping[str, str], *, slots: int) -> RunningWorker:
    """Begin to run turns, at most `slots` at once.

    Raises:
        SettingsError, StoreError: as `build_services`.
    """
    services = build_services(settings, environ, slots=slots)
    return RunningWorker(services, TaskWorker(settings.redis_url or "", services.sessions.turns.take_up, threads=slots))
