"""Ceilings on what sessions and owners spend in all, deleted sessions included."""

from dataclasses import dataclass

from opencode.errors import TurnError
from opencode.records import Session, Spending
from opencode.storage.port import SpendingStore


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that may be spent, in tokens (in and out) and seconds of turns; None: no ceiling."""

    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The ceilings of one server; what is spent is the store's to know, so that a restart gives nothing back."""

    store: SpendingStore
    session: Ceiling = Ceiling()
    owner: Ceiling = Ceiling()

    def spent(self, session: Session) -> tuple[Spending, Spending]:
        """What the session has spent, and what its owner has in all."""
        return self.store.spent(session.owner, session.id)

    def check(self, session: Session, running_ms: int) -> None:
        """Whether the session may go on; asked before each call of its model.

        `running_ms` is what its turn has taken since that was last stored.

        Raises:
            TurnError: `BUDGET_SPENT`; the message names whose budget, and the setting.
        """
        if self.session == self.owner == Ceiling():
            return
        spent = self.spent(session)
        _check(self.session, spent[0], running_ms, "this session", "OPENCODE_SESSION_BUDGET")
        _check(self.owner, spent[1], running_ms, f"owner {session.owner}", "OPENCODE_BUDGET")


def _check(ceiling: Ceiling, spent: Spending, running_ms: int, whose: str, setting: str) -> None:
    if ceiling.tokens is not None and spent.tokens >= ceiling.tokens:
        raise _spent(whose, f"{spent.tokens} of {ceiling.tokens} tokens are", f"{setting}_TOKENS")
    seconds = (spent.turn_ms + running_ms) / 1000
    if ceiling.seconds is not None and seconds >= ceiling.seconds:
        raise _spent(whose, f"{seconds:.0f} of {ceiling.seconds:g} seconds of turns are", f"{setting}_SECONDS")


def _spent(whose: str, what: str, setting: str) -> TurnError:
    message = f"The budget of {whose} is spent: {what} used ({setting}). A higher value lets it go on."
    return TurnError(message, code="BUDGET_SPENT")
