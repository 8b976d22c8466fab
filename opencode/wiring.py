"""The composition root: the only module that names concrete adapters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from opencode.bus.memory import MemoryBus
from opencode.cancel import Cancel
from opencode.errors import InvalidRequest, SettingsError, StoreError
from opencode.provider.anthropic import Anthropic
from opencode.provider.demo import Demo
from opencode.provider.discovery import LocalServer, find_local_servers
from opencode.provider.models import ModelNames, choose_default
from opencode.provider.openai import OpenAI
from opencode.provider.port import Provider
from opencode.provider.scripted import Scripted
from opencode.records import Turn
from opencode.session.directories import Directories
from opencode.session.log import EventLog
from opencode.session.pen import Pen
from opencode.session.permission import Gate
from opencode.session.prompt import conversation
from opencode.session.resume import Start, draft_of, unfolded, where
from opencode.session.runner import Pause, Runner
from opencode.session.service import SessionService
from opencode.session.tui import Screens
from opencode.session.turn import Limits, TurnLoop
from opencode.session.turns import Turns
from opencode.settings import Settings
from opencode.storage.port import Store
from opencode.storage.sql import open_store
from opencode.tool.bash import Bash, tool_environment
from opencode.tool.edit import Edit
from opencode.tool.glob import Glob
from opencode.tool.grep import Grep, find_ripgrep
from opencode.tool.list import List
from opencode.tool.read import Read
from opencode.tool.toolbox import Toolbox
from opencode.tool.write import Write

#: Messages of a session that a model is told; older ones are left out.
_HISTORY_MESSAGES = 400


@dataclass(frozen=True, slots=True)
class Services:
    """What the server talks to."""

    settings: Settings
    sessions: SessionService
    screens: Screens
    models: ModelNames
    model_reason: str
    log: EventLog
    _store: Store
    _runner: Runner
    _checks: Mapping[str, Callable[[], None]]
    _providers: Mapping[str, Provider]

    def checks(self) -> Mapping[str, Callable[[], None]]:
        """By name, what must work for the server to be ready; each raises where it does not."""
        return self._checks

    def stop(self, timeout_s: float) -> None:
        """Take no new turns, give the running ones `timeout_s` seconds, then end all streams and close the store."""
        try:
            waiting = {turn.id for turn in self._store.active_turns() if turn.state == "waiting"}
        except StoreError:
            waiting = set()  # out of reach; what can be let go of still is
        self._runner.stop(timeout_s, waiting)
        self.log.close_followers()
        self.log.close()
        for provider in self._providers.values():
            provider.close()
        self._store.close()


def build_services(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    providers: Mapping[str, Provider] | None = None,
) -> Services:
    """Open the store and put everything together. `providers` replaces those that the settings call for.

    Raises:
        SettingsError: a setting cannot be honoured.
        StoreError: the store is in use, or was written by a newer version.
    """
    directories = _directories(settings)
    toolbox = _toolbox(environ)
    unknown = sorted(settings.permission.keys() - set(toolbox.names))
    if unknown:
        raise SettingsError(
            f"OPENCODE_PERMISSION names {unknown[0]!r}, which is no tool. The tools: {', '.join(toolbox.names)}."
        )
    models, reason = find_models(settings, providers)
    store = open_store(settings.database_url, settings.data_dir, durability=settings.durability)
    bus = MemoryBus()
    event_log = EventLog(store, bus)
    _warm(models)
    work = _Work(settings, store, event_log, bus, models, toolbox)
    runner = Runner(work, store, turn_timeout_s=settings.turn_timeout_s, lease_s=settings.lease_s)
    turns = Turns(store, event_log, runner, max_attempts=settings.max_attempts)
    sessions = SessionService(
        store=store,
        log=event_log,
        bus=bus,
        models=models,
        tools=toolbox,
        runner=runner,
        turns=turns,
        directories=directories,
        ceiling=settings.permission,
        max_turns=settings.max_turns if settings.rate_limit else None,
    )
    _take_up(turns, runner, event_log, store)
    screens = Screens(sessions, bus, event_log.closing)
    checks = {"store": store.check, "bus": bus.check, "turns": runner.check_open}
    return Services(settings, sessions, screens, models, reason, event_log, store, runner, checks, models.providers)


def _take_up(turns: Turns, runner: Runner, event_log: EventLog, store: Store) -> None:
    """This process owns the store, so that nobody else can be working on what is unfinished."""
    try:
        turns.take_up_all(now=float("inf"))
    except StoreError:
        runner.stop(0.0)
        event_log.close()
        store.close()
        raise


@dataclass(frozen=True, slots=True)
class _Work:
    """Carries out one turn."""

    settings: Settings
    store: Store
    log: EventLog
    bus: MemoryBus
    models: ModelNames
    tools: Toolbox

    def __call__(self, turn: Turn, cancel: Cancel, pause: Pause) -> None:
        settings = self.settings
        session, messages, _older = self.store.snapshot(turn.owner, turn.session_id, limit=_HISTORY_MESSAGES)
        draft = draft_of(turn, next(message for message in messages if message.id == turn.message_id))
        frames = unfolded(self.store, session.id, session.folded_seq)
        start = where(draft, frames, turn.id) if turn.attempt > 1 else Start()
        TurnLoop(
            session=session,
            turn=turn,
            history=conversation(message for message in messages if message.id < turn.message_id),
            provider=self.models.provider(turn.model.partition("/")[0]),
            tools=self.tools,
            gate=Gate(self.store, self.bus, settings.permission, settings.permission_timeout_s, pause),
            pen=Pen(self.log, turn, draft),
            cancel=cancel,
            limits=Limits(settings.max_steps, settings.max_tokens, settings.turn_timeout_s),
            start=start,
        ).run()


def _warm(models: ModelNames) -> None:
    """Import the SDKs that can be asked: it takes up to a second in which no stream moves, so before there are any."""
    for provider in models.providers.values():
        if isinstance(provider, Anthropic | OpenAI) and provider.missing() is None:
            provider.warm()


def _directories(settings: Settings) -> Directories:
    here = (settings.directory or Path.cwd()).resolve()
    roots = tuple(Path(root).expanduser().resolve() for root in settings.project_roots) or (here,)
    for root in roots:
        if not root.is_dir():
            raise SettingsError(f"OPENCODE_PROJECT_ROOTS names {root}, which is not a directory. Create or correct it.")
    return Directories(roots, here if any(here.is_relative_to(root) for root in roots) else roots[0])


def find_models(settings: Settings, given: Mapping[str, Provider] | None = None) -> tuple[ModelNames, str]:
    """The models that can be asked, and the reason for the default one.

    Raises:
        SettingsError: the default model that is set cannot be resolved.
    """
    local = [] if given is not None else find_local_servers()
    name, reason = choose_default(
        settings.model,
        anthropic_key=settings.anthropic_api_key is not None,
        openai_key=settings.openai_api_key is not None,
        local=local[0] if local else None,
    )
    providers = dict(given) if given is not None else _providers(settings, local)
    models = ModelNames(providers, settings.model_aliases, name)
    try:
        models.resolve(None)
    except InvalidRequest as exc:
        raise SettingsError(f"OPENCODE_MODEL: {exc.message}") from None
    return models, reason


def _providers(settings: Settings, local: list[LocalServer]) -> dict[str, Provider]:
    timeout_s = settings.provider_timeout_s
    found: dict[str, Provider] = {
        "anthropic": Anthropic(
            api_key=settings.anthropic_api_key, base_url=settings.anthropic_base_url, timeout_s=timeout_s
        ),
        "openai": OpenAI(api_key=settings.openai_api_key, base_url=settings.openai_base_url, timeout_s=timeout_s),
    }
    for server in local:
        found[server.name] = OpenAI(
            name=server.name,
            api_key=None,
            base_url=server.base_url,
            timeout_s=timeout_s,
            models=server.models,
            requires_key=False,
        )
    found["demo"] = Demo(hint=_hint(local))
    if settings.script is not None:
        found["scripted"] = Scripted.from_file(settings.script)
    return found


def _hint(local: list[LocalServer]) -> str:
    if local and local[0].models:
        model = f"{local[0].name}/{local[0].models[0]}"
        return f"{local[0].label} answers here: start the server with OPENCODE_MODEL={model} to talk to a real model."
    return "For a real model set ANTHROPIC_API_KEY or OPENAI_API_KEY, or start Ollama, and restart the server."


def _toolbox(environ: Mapping[str, str]) -> Toolbox:
    environment = tool_environment(environ)
    grep = Grep(ripgrep=find_ripgrep(environment.get("PATH", "")))
    return Toolbox([Bash(environment=environment), Read(), Write(), Edit(), grep, Glob(), List()])
