"""A new session from an old one's messages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from opencode.clock import timestamp
from opencode.errors import InvalidRequest
from opencode.ids import new_id
from opencode.records import ACTIVE_STATES, Message, Session, Usage
from opencode.session.events import Forked


@dataclass(frozen=True, slots=True)
class Fork:
    """The new session and its messages, with ids of their own."""

    session: Session
    messages: tuple[Message, ...]

    def event(self, source_id: str) -> Forked:
        """The first event of the new session's log; it holds the messages."""
        told = [
            {
                "id": message.id,
                "role": message.role,
                "content": message.content,
                "timestamp": message.created_at,
                "parts": list(message.parts),
            }
            for message in self.messages
        ]
        return Forked(session_id=self.session.id, source_id=source_id, messages=told)


def copy(source: Session, messages: Sequence[Message], message_id: str | None) -> Fork:
    """Copy a session with its messages up to and with `message_id`.

    Raises:
        InvalidRequest: there is no such message, or its turn has not ended.
    """
    active = {message.turn_id for message in messages if message.status in ACTIVE_STATES}
    kept = [message for message in messages if message.turn_id not in active]
    if message_id is not None:
        places = [place for place, message in enumerate(kept) if message.id == message_id]
        if not places:
            reason = "is of a turn that has not ended" if any(m.id == message_id for m in messages) else "is unknown"
            raise InvalidRequest(
                f"message_id {message_id[:100]!r} {reason}.", details=[{"field": "message_id", "message": reason}]
            )
        kept = kept[: places[0] + 1]
    session = replace(
        source,
        id=new_id("ses"),
        created_at=timestamp(),
        title=f"{source.title} (fork)" if source.title else "",
        last_message_at=None,
        message_count=0,
        folded_seq=0,
        usage=Usage(),
        status="idle",
    )
    return Fork(session, tuple(replace(message, id=new_id("msg"), session_id=session.id) for message in kept))
