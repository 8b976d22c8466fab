"""What carries out turns."""

from dataclasses import dataclass

from opencode import telemetry
from opencode.bus.port import Bus
from opencode.cancel import Cancel
from opencode.provider.models import ModelNames
from opencode.records import Turn
from opencode.session.budget import Budget, Ceiling
from opencode.session.directories import Directories
from opencode.session.log import EventLog
from opencode.session.pen import Pen
from opencode.session.permission import Gate
from opencode.session.prompt import conversation
from opencode.session.resume import Start, draft_of, unfolded, where
from opencode.session.runner import Pause, Runner
from opencode.session.service import SessionService
from opencode.session.turn import Limits, TurnLoop
from opencode.session.turns import Turns
from opencode.session.watch import Watch, WatchedProvider
from opencode.settings import Settings
from opencode.storage.port import Store
from opencode.tool.toolbox import Toolbox
from opencode.wiring.shared import Shared

#: Messages of a session that a model is told; older ones are left out.
_HISTORY_MESSAGES = 400


def session_service(
    settings: Settings,
    *,
    store: Store,
    event_log: EventLog,
    shared: Shared,
    slots: int | None,
    models: ModelNames,
    toolbox: Toolbox,
    directories: Directories,
    watch: Watch,
) -> SessionService:
    budget = _budget(settings, store)
    work = _Work(settings, store, event_log, shared.bus, models, toolbox, directories, budget, watch)
    runner = Runner(
        work,
        store,
        turn_timeout_s=settings.turn_timeout_s,
        lease_s=settings.lease_s,
        max_turns=settings.max_turns if settings.rate_limit else None,
        everywhere=settings.on_postgresql,
        slots=slots,
    )
    tasks = shared.tasks
    hand_on = None if tasks is None else lambda turn: tasks.put(turn.session_id, turn.id)
    turns = Turns(store, event_log, runner, shared.bus, max_attempts=settings.max_attempts, hand_on=hand_on)
    return SessionService(
        store=store,
        log=event_log,
        bus=shared.bus,
        models=models,
        tools=toolbox,
        runner=runner,
        turns=turns,
        directories=directories,
        ceiling=settings.permission,
        budget=budget,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """Carries out one turn."""

    settings: Settings
    store: Store
    log: EventLog
    bus: Bus
    models: ModelNames
    tools: Toolbox
    directories: Directories
    budget: Budget
    watch: Watch

    def __call__(self, turn: Turn, cancel: Cancel, pause: Pause) -> None:
        self.watch.turn_began.send(self, turn=turn)
        try:
            ids = {"session_id": turn.session_id, "turn_id": turn.id, "owner": turn.owner}
            with telemetry.work(**ids), telemetry.span("turn", **ids, attempt=turn.attempt, model=turn.model):
                self._run(turn, cancel, pause)
        finally:
            self.watch.turn_left.send(self, turn=turn)

    def _run(self, turn: Turn, cancel: Cancel, pause: Pause) -> None:
        settings = self.settings
        session, messages, _older = self.store.snapshot(turn.owner, turn.session_id, limit=_HISTORY_MESSAGES)
        name = turn.model.partition("/")[0]
        draft = draft_of(turn, next(message for message in messages if message.id == turn.message_id))
        frames = unfolded(self.store, session.id, session.folded_seq)
        start = where(draft, frames, turn.id) if turn.attempt > 1 else Start()
        TurnLoop(
            session=session,
            turn=turn,
            history=conversation(message for message in messages if message.id < turn.message_id),
            provider=WatchedProvider(name, self.models.provider(name), self.watch),
            tools=self.tools,
            directories=self.directories,
            gate=Gate(self.store, self.bus, settings.permission, settings.permission_timeout_s, pause),
            pen=Pen(self.log, turn, draft),
            cancel=cancel,
            limits=Limits(settings.max_steps, settings.max_tokens, settings.turn_timeout_s),
            budget=self.budget,
            start=start,
        ).run()


def _budget(settings: Settings, store: Store) -> Budget:
    session = Ceiling(settings.session_budget_tokens, settings.session_budget_seconds)
    return Budget(store, session=session, owner=Ceiling(settings.budget_tokens, settings.budget_seconds))
