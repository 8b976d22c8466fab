"""Where a turn goes on that lost its process: what its log and its stored message say."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from opencode import frames
from opencode.records import Message, Turn
from opencode.session.pen import Draft
from opencode.storage.port import EventStore

_READ_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """The model call to begin with. `discards_from` voids what an attempt cut short had streamed."""

    step: int = 1
    attempt: int = 1
    discards_from: int | None = None


def draft_of(turn: Turn, message: Message) -> Draft:
    """The turn's message as far as it is stored."""
    return Draft(message.id, [dict(part) for part in message.parts], turn.usage)


def unfolded(store: EventStore, session_id: str, folded_seq: int) -> Iterator[bytes]:
    """The frames that the stored messages do not contain yet."""
    while found := store.read(session_id, folded_seq, _READ_BYTES):
        yield from found
        folded_seq += len(found)


def where(draft: Draft, unfolded: Iterable[bytes], turn_id: str, *, last: str = "interrupted") -> Start:
    """Where to go on, from the frames after the last stored step; what they streamed becomes interrupted parts.

    The model is asked again for the step that was cut off; it never sees the half answer. Where nothing is to follow,
    the last answer is not void: `last` is the status of its parts then.
    """
    start = Start(step=1 + max((part["step"] for part in draft.parts if part["status"] != "interrupted"), default=0))
    streamed: dict[str, list[str]] = {}
    for frame in unfolded:
        seq, event, data = frames.parse(frame)
        if data.get("turn_id") != turn_id:
            continue
        if event == "step":
            _keep(draft, start.step, streamed, "interrupted")
            start = Start(step=data["step"], attempt=data["attempt"] + 1, discards_from=seq)
            streamed = {}
        elif event in {"text", "reasoning"}:
            streamed.setdefault(event, []).append(data["content"])
    _keep(draft, start.step, streamed, last)
    return start


def _keep(draft: Draft, step: int, streamed: dict[str, list[str]], status: str) -> None:
    for kind, pieces in streamed.items():
        part: dict[str, Any] = {"type": kind, "step": step, "content": "".join(pieces), "status": status}
        draft.add(part)
