"""What several processes share: the bell between them, and the hints that pass turns on to workers."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opencode.bus.memory import MemoryBus
from opencode.bus.polled import PolledBus
from opencode.bus.redis import RedisBus
from opencode.bus.tasks import Tasks
from opencode.errors import SettingsError

if TYPE_CHECKING:
    from opencode.bus.port import SharedBus
    from opencode.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """`local` wakes who is in this process; `bus` whoever may be anywhere, the same where there is one process."""

    local: MemoryBus
    bus: MemoryBus | PolledBus | RedisBus
    tasks: Tasks | None

    @property
    def afar(self) -> "SharedBus | None":
        """The bell to other processes, where there are any."""
        return None if isinstance(self.bus, MemoryBus) else self.bus

    def close(self) -> None:
        if self.tasks is not None:
            self.tasks.close()
        self.local.close()
        self.bus.close()


def find_shared(settings: "Settings", *, runs_turns: bool) -> Shared:
    """With `runs_turns`, turns run in this process whatever the settings say.

    Raises:
        SettingsError: turns are to run in workers, but there is nothing that these would share.
    """
    local = MemoryBus()
    if not settings.several_processes:
        if settings.turns == "worker":
            local.close()
            raise SettingsError(
                "OPENCODE_TURNS=worker needs a store and a bell that workers reach: set DATABASE_URL=postgresql://…"
                " and REDIS_URL=redis://…"
            )
        if settings.on_postgresql:
            log.info("REDIS_URL is not set: servers that share this DATABASE_URL hear of one another once a second.")
            return Shared(local, PolledBus(), None)
        if settings.redis_url:
            log.warning("REDIS_URL has no effect without DATABASE_URL=postgresql://…: one process needs no bell.")
        return Shared(local, local, None)
    url = settings.redis_url or ""
    return Shared(local, RedisBus(url), Tasks(url) if settings.turns == "worker" and not runs_turns else None)
