"""What one attempt of a turn writes with: every append carries the attempt's number."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opencode.changes import Change, FoldMessage, PutParts
from opencode.clock import timestamp
from opencode.frames import Body
from opencode.records import Turn, Usage
from opencode.session.events import Event
from opencode.session.log import EventLog
from opencode.storage.port import Append, Committed

if TYPE_CHECKING:
    from opencode.session.pending import Pending


@dataclass(slots=True)
class Draft:
    """The turn's assistant message as it grows: its parts, the text that counts, the tokens so far."""

    message_id: str
    parts: list[dict[str, Any]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    _unsaved: set[int] = field(default_factory=set)

    @property
    def content(self) -> str:
        return "".join(
            part["content"] for part in self.parts if part["type"] == "text" and part["status"] != "interrupted"
        )

    def add(self, part: dict[str, Any]) -> dict[str, Any]:
        """Append a part; keep the returned dict to change it, and `touch` it then."""
        self._unsaved.add(len(self.parts))
        self.parts.append({**part, "timestamp": timestamp()})
        return self.parts[-1]

    def touch(self, part: dict[str, Any]) -> None:
        """The part has changed and is to be stored again."""
        self._unsaved.add(next(n for n, own in enumerate(self.parts) if own is part))

    def take_changes(self, turn_id: str) -> tuple[Change, ...]:
        """The rows to write so that the stored message is this one."""
        fold = FoldMessage(turn_id, self.message_id, self.content, self.usage)
        if not self._unsaved:
            return (fold,)
        parts = tuple((n, dict(self.parts[n])) for n in sorted(self._unsaved))
        self._unsaved.clear()
        return (PutParts(self.message_id, parts), fold)


class Pen:
    """Writes one attempt's events. Holds the session's tail, so that followers are served from memory."""

    def __init__(self, log: EventLog, turn: Turn, draft: Draft) -> None:
        self._log = log
        self._turn = turn
        self._attempt = (turn.id, turn.attempt)
        self.draft = draft
        self._last: Pending | None = None
        self._tail = log.tail(turn.session_id)

    def stream(self, body: Body) -> None:
        """Write an event without waiting for the store; what waits goes with the next commit.

        Raises:
            StaleAttempt, StoreError: an earlier event was refused.
        """
        self._last = self._log.extend(self._last, self._turn.session_id, self._attempt, body)

    def write(self, *bodies: Event | Body, changes: tuple[Change, ...] = (), fold: bool = False) -> Committed:
        """Write events and wait until they are stored; with `fold` the message's rows go along."""
        if fold:
            changes = (*self.draft.take_changes(self._turn.id), *changes)
        append = self._append([item.body() if isinstance(item, Event) else item for item in bodies])
        append.changes = changes
        append.folds = fold
        # Where what was streamed before has failed, this fails too: a gap in the text must not pass.
        return self._log.submit(append, after=self._last).result()

    def _append(self, bodies: list[Body]) -> Append:
        return Append(self._turn.session_id, bodies, turn=self._attempt)
