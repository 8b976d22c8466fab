"""Rows and events to fill a store with, in the words of its port."""

from dataclasses import replace

from opencode import frames
from opencode.changes import EndTurn, StartTurn
from opencode.ids import new_id
from opencode.records import Message, Session, Turn, Usage
from opencode.session import events
from opencode.storage.port import Append

OWNER = "ada"
NOW = "2026-01-02T03:04:05.678Z"


def a_session(owner=OWNER, **values) -> Session:
    given = {"title": "", "model": None, "resolved_model": "scripted/script", "tools": ("bash", "read")}
    given |= {"directory": "/tmp", "system": None, "permission": {}, "created_at": NOW}
    return Session(id=new_id("ses"), owner=owner, **given | values)


def stored_session(store, owner=OWNER, **values) -> Session:
    session = a_session(owner, **values)
    store.create(session)
    return session


def a_turn(session, **values) -> Turn:
    given = {"state": "running", "attempt": 1, "model": session.resolved_model, "content": "go", "created_at": NOW}
    given |= {"id": new_id("trn"), "user_message_id": new_id("msg"), "message_id": new_id("msg")}
    return Turn(session_id=session.id, owner=session.owner, **given | values)


def start(turn) -> Append:
    """What begins a turn: `turn_start`, the turn's row and its two messages."""
    said = {"session_id": turn.session_id, "turn_id": turn.id, "created_at": turn.created_at}
    user = Message(id=turn.user_message_id, role="user", content=turn.content, **said)
    assistant = Message(id=turn.message_id, role="assistant", content="", status="running", **said)
    event = events.TurnStart(
        turn_id=turn.id, content=turn.content, message_id=turn.user_message_id, model="scripted/script"
    )
    return Append(turn.session_id, [event.body()], (StartTurn(turn, user, assistant),), folds=True)


def started_turn(commit, session, **values) -> Turn:
    """`commit` is a store's or a log's; the turn knows its first number."""
    turn = a_turn(session, **values)
    return replace(turn, first_seq=commit(start(turn)).first_seq)


def text(content="x", turn_id="trn_none") -> bytes:
    return events.Text(turn_id=turn_id, content=content).body()


def texts(session_id, *contents, turn=None, **more) -> Append:
    """Text events, of a turn's present attempt where one is given."""
    bodies = [text(content, turn.id if turn else "trn_none") for content in contents]
    return Append(session_id, bodies, turn=(turn.id, turn.attempt) if turn else None, **more)


def end(turn, state="completed", usage=None) -> Append:
    done = events.Done(turn_id=turn.id, tokens=0, duration=0, status=state, usage={}, events=0)
    change = EndTurn(turn.id, turn.message_id, turn.session_id, state, None, usage or Usage())
    return Append(turn.session_id, [done.body()], (change,), turn=(turn.id, turn.attempt), folds=True)


def read_all(store, session_id, after=0, limit_bytes=100_000) -> list[bytes]:
    """Everything above `after`, read as a follower would: until there is nothing."""
    found: list[bytes] = []
    while page := store.read(session_id, after, limit_bytes):
        found += page
        after = frames.parse(page[-1])[0]
    return found


def numbers(found) -> list[int]:
    return [frames.parse(frame)[0] for frame in found]


def contents(found) -> list[str]:
    return [frames.parse(frame)[2].get("content") for frame in found]
