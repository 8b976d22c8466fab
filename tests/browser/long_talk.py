"""A session of 10,000 messages, put into a store before its server starts."""

from opencode.changes import PutMessages
from opencode.records import Message, Session
from opencode.session.events import SessionUpdated
from opencode.storage.port import Append
from opencode.storage.sql import open_store

LONG = "ses_0000000000000000000000long"
SHORT = "ses_000000000000000000000short"
MESSAGES = 10_000
NOW = "2026-01-02T03:04:05.678Z"


def put_long_talk(data_dir, directory):
    """Store it, and a short one to compare it with."""
    store = open_store(None, data_dir)
    try:
        for session_id, messages in ((LONG, MESSAGES), (SHORT, 60)):
            session = Session(
                id=session_id,
                owner="local",
                title=f"A talk of {messages} messages",
                model=None,
                resolved_model="openai/wire-model",
                tools=("bash",),
                directory=str(directory),
                system=None,
                permission={},
                created_at=NOW,
            )
            told = tuple(_message(session_id, number) for number in range(1, messages + 1))
            event = SessionUpdated(session_id=session_id, changed={"title": session.title})
            store.create(session, None, Append(session_id, [event.body()], (PutMessages(told),), folds=True))
    finally:
        store.close()


def _message(session_id, number):
    is_answer = number % 2 == 0
    content = f"answer {number}: some **bold** words and `code`" if is_answer else f"request {number}"
    part = {"type": "text", "step": 1, "content": content, "status": "completed", "timestamp": NOW}
    return Message(
        id=f"msg_{session_id[-5:]}{number:08d}",
        session_id=session_id,
        turn_id=f"trn_{session_id[-5:]}{(number + 1) // 2:08d}",
        role="assistant" if is_answer else "user",
        content=content,
        created_at=NOW,
        parts=(part,) if is_answer else (),
    )
