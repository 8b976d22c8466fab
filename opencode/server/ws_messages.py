"""The messages of a WebSocket: what clients may say, and events as they are told (API section 6)."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints, ValidationError

from opencode import frames
from opencode.errors import InvalidRequest
from opencode.server import schemas
from opencode.server.routes import invalid
from opencode.session.tail import Chunk

_ID_CHARS = 200
#: Of what is sent at one go; only an event that is larger by itself is more.
_BATCH_BYTES = 16 * 1024


class Command(schemas.Request):
    """`id` comes back with what is answered to this message."""

    id: Annotated[str, StringConstraints(max_length=_ID_CHARS)] | int | None = None


class Create(Command, schemas.CreateSession):
    type: Literal["create_session"]


class Say(Command, schemas.SendMessage):
    type: Literal["message"]
    session_id: schemas.Name
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None


class Follow(Command):
    type: Literal["follow"]
    session_id: schemas.Name
    after: Annotated[int, Field(ge=0)] | None = None


class Unfollow(Command):
    type: Literal["unfollow"]
    session_id: schemas.Name


class Abort(Command, schemas.Abort):
    type: Literal["abort"]
    session_id: schemas.Name


class Answer(Command, schemas.AnswerPermission):
    type: Literal["permission"]
    session_id: schemas.Name
    permission_id: schemas.Name


class Ping(Command):
    type: Literal["ping"]


COMMANDS: dict[str, type[Command]] = {
    "create_session": Create,
    "message": Say,
    "follow": Follow,
    "unfollow": Unfollow,
    "abort": Abort,
    "permission": Answer,
    "ping": Ping,
}


def decode(text: str) -> dict[str, Any]:
    """The JSON object of a message.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"the message is not valid JSON: {exc}") from None
    if not isinstance(found, dict):
        raise InvalidRequest("a message must be a JSON object")
    return found


def parse(found: dict[str, Any]) -> Command:
    """Check a message against its type's fields.

    Raises:
        InvalidRequest: it has an unknown type, or a missing, unknown or wrong field; `details` names each.
    """
    kind = found.get("type")
    model = COMMANDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        message = f"must be one of {', '.join(COMMANDS)}"
        raise InvalidRequest(f"type: {message}", details=[{"field": "type", "message": message}])
    try:
        return model.model_validate(found)
    except ValidationError as exc:
        raise invalid(exc) from None


def own_id(found: dict[str, Any]) -> dict[str, Any]:
    """The client's `id`, to be sent back, where it gave one that can be."""
    own = found.get("id")
    fits = (isinstance(own, str) and len(own) <= _ID_CHARS) or (isinstance(own, int) and not isinstance(own, bool))
    return {"id": own} if fits else {}


def encode(message: dict[str, Any]) -> str:
    return orjson.dumps(message).decode()


def event(session_id: str, frame: bytes) -> str:
    """A stored frame as a message: the same name, number and data; one that is not in the log has no `seq`."""
    number, rest = (frame.split(b"\n", 1)) if frame.startswith(b"id: ") else (b"", frame)
    name, data = rest.split(b"\n", 2)[:2]
    seq = b'"seq":%b,' % number[4:] if number else b""
    return (b'{"type":"%b","session_id":"%b",%b"data":%b}' % (name[7:], session_id.encode(), seq, data[6:])).decode()


def batches(session_id: str, chunk: Chunk) -> Iterator[list[str]]:
    """A chunk's events as messages, in lists that are short enough to be sent at one go."""
    batch: list[str] = []
    size = 0
    for frame in frames.split(chunk.data):
        batch.append(event(session_id, frame))
        size += len(frame)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
