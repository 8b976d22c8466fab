"""The end of a turn that nobody works on any more."""

from typing import Any, Literal

from opencode.changes import EndTurn
from opencode.errors import SessionNotFound
from opencode.records import Turn
from opencode.session.events import Error
from opencode.session.resume import draft_of, unfolded, where
from opencode.session.turn import NOT_RUN, UNFINISHED, UNKNOWN, done, result
from opencode.storage.port import Append, Store


def ending(store: Store, turn: Turn, status: Literal["aborted", "failed"], error: Error | None) -> Append:
    """The end of a turn that nobody works on any more: results for its open calls, `error` if any, and `done`.

    Its message gets all that the log shows of it, as if its own attempt had ended it.
    """
    message = store.message(turn.session_id, turn.message_id)
    if message is None:
        raise SessionNotFound(turn.session_id)
    draft = draft_of(turn, message)
    folded_seq = store.get(turn.owner, turn.session_id).folded_seq
    where(draft, unfolded(store, turn.session_id, folded_seq), turn.id, last="completed")
    bodies: list[Any] = [
        result(turn.id, draft, part, UNKNOWN if part["status"] == "running" else NOT_RUN).body()
        for part in draft.parts
        if part["status"] in UNFINISHED
    ]
    if error is not None:
        bodies.append(error.body())
    bodies.append(lambda seq: done(turn, status, turn.usage, seq))
    end = EndTurn(turn.id, turn.message_id, turn.session_id, status, error.code if error else None, turn.usage)
    # The guard lets a running turn's attempt end it; a queued one was claimed before.
    changes = (*draft.take_changes(turn.id), end)
    return Append(turn.session_id, bodies, changes, turn=(turn.id, turn.attempt), folds=True)
