"""The composition root: the only package that names concrete adapters."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from opencode.confinement import find_directories
from opencode.errors import StoreError
from opencode.provider.models import ModelNames
from opencode.provider.port import Provider
from opencode.session.log import EventLog
from opencode.session.outbox import Outbox
from opencode.session.runner import Runner
from opencode.session.service import SessionService
from opencode.session.tui import Screens
from opencode.session.watch import Watch
from opencode.settings import Settings
from opencode.storage.port import SecretStore, Store
from opencode.storage.sql import open_store
from opencode.tool.port import Tools
from opencode.wiring.models import find_models, put_off, warm
from opencode.wiring.shared import Shared, find_shared
from opencode.wiring.tools import find_tools
from opencode.wiring.turns import session_service
from opencode.wiring.webhooks import find_poster, open_outbox

__all__ = ["Services", "build_services", "find_models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the server talks to."""

    settings: Settings
    sessions: SessionService
    screens: Screens
    models: ModelNames
    model_reason: str
    #: What commands run in, for people.
    sandbox: str
    tools: Tools
    log: EventLog
    secrets: SecretStore
    watch: Watch
    _store: Store
    _shared: Shared
    _runner: Runner
    _checks: Mapping[str, Callable[[], None]]
    _providers: Mapping[str, Provider]
    _outbox: Outbox | None

    def checks(self) -> Mapping[str, Callable[[], None]]:
        """By name, what must work for the server to be ready; each raises where it does not."""
        return self._checks

    def put_off(self) -> Iterator[Callable[[], object]]:
        """What the start has left to the first turn, in pieces: each takes some milliseconds, and is done by a call."""
        yield from put_off(self.models)
        for tool in self.tools.specs(self.tools.names):
            yield partial(getattr, tool, "parameters")

    def stop(self, timeout_s: float) -> None:
        """Take no new turns, give the running ones `timeout_s` seconds, then end all streams and close the store."""
        try:
            waiting = {turn.id for turn in self._store.active_turns() if turn.state == "waiting"}
        except StoreError:
            waiting = set()  # out of reach; what can be let go of still is
        self._runner.stop(timeout_s, waiting)
        self.sessions.turns.hand_over()
        self.log.close_followers()
        self.screens.close()
        self.log.close()
        if self._outbox is not None:
            self._outbox.close()
        for provider in self._providers.values():
            provider.close()
        self._shared.close()
        self._store.close()


def build_services(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    providers: Mapping[str, Provider] | None = None,
    takes_up: bool = True,
    slots: int | None = None,
) -> Services:
    """Open the store and put everything together. `providers` replaces those that the settings call for.

    With `takes_up` off, turns that a server has left unfinished stay as they are: for a look at the store. `slots` are
    a worker's: so many turns run in this process, whatever the settings say of where they run.

    Raises:
        SettingsError: a setting cannot be honoured.
        StoreError: the store is in use, or was written by a newer version.
    """
    directories, poster = find_directories(settings), find_poster(settings)
    toolbox, sandbox = find_tools(settings, environ, directories)
    models, reason = find_models(settings, providers)
    store = open_store(settings.database_url, settings.data_dir, durability=settings.durability)
    shared = find_shared(settings, runs_turns=slots is not None)
    event_log = EventLog(store, shared.local, shared=shared.afar)
    outbox = open_outbox(settings, poster, store, event_log)
    warm(models)
    parts: Any = {"models": models, "toolbox": toolbox, "directories": directories, "watch": (watch := Watch())}
    sessions = session_service(settings, store=store, event_log=event_log, shared=shared, slots=slots, **parts)
    _take_up(sessions, takes_up=takes_up, alone=not settings.on_postgresql)
    return Services(
        settings=settings,
        sessions=sessions,
        screens=Screens(sessions, shared.local, event_log.closing, shared=shared.afar),
        models=models,
        model_reason=reason,
        sandbox=sandbox,
        tools=toolbox,
        log=event_log,
        secrets=store,
        watch=watch,
        _store=store,
        _shared=shared,
        _runner=sessions.runner,
        _checks={"store": store.check, "bus": shared.bus.check, "turns": sessions.runner.check_open},
        _providers=models.providers,
        _outbox=outbox,
    )


def _take_up(sessions: SessionService, *, takes_up: bool, alone: bool) -> None:
    """Take up what is unfinished: who owns the store at once, else the clock does so when its lease has ended."""
    if not takes_up:
        sessions.runner.on_tick = lambda: None
    if not (takes_up and alone):
        return
    try:
        sessions.turns.take_up_all(now=float("inf"))
    except StoreError:
        sessions.runner.stop(0.0)
        sessions.log.close()
        sessions.store.close()
        raise
