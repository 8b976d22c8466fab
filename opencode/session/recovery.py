"""What a dead server left behind."""

import logging

from opencode.records import Turn
from opencode.session.events import Done, Error
from opencode.session.log import EventLog
from opencode.storage.port import Append, EndTurn, MessageStore

log = logging.getLogger(__name__)


def end_interrupted(store: MessageStore, event_log: EventLog) -> None:
    """Bring each turn that nobody works on any more to its visible end: `error` and `done`.

    The caller owns the store, so that no live process can be working on them.
    """
    for turn in store.active_turns():
        log.warning("turn %s was interrupted by the end of its server", turn.id)
        event_log.append(_ending(turn))


def _ending(turn: Turn) -> Append:
    error = Error(turn_id=turn.id, message="The server stopped while this turn was running.", code="TURN_INTERRUPTED")
    usage = turn.usage

    def done(seq: int) -> bytes:
        return Done(
            turn_id=turn.id,
            tokens=usage.tokens,
            duration=usage.turn_ms,
            status="failed",
            usage={"input": usage.input, "output": usage.output, "cached": usage.cached},
            events=seq - turn.first_seq + 1,
        ).body()

    end = EndTurn(turn.id, turn.message_id, turn.session_id, "failed", error.code, usage)
    return Append(turn.session_id, [error.body(), done], (end,), turn=(turn.id, turn.attempt), folds=True)
