"""Whether pages stay flat: a session of 10,000 messages, a store of 100,000 sessions, and the start-up on it.

    python -m bench pages [--quick]

The median time of each request on a small store and on a large one, and their ratio, from one run.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from flask.testing import FlaskClient

from bench.table import Table, against
from opencode.clock import timestamp
from opencode.ids import new_id
from opencode.records import Message, Session
from opencode.server.factory import create_app
from opencode.settings import Settings
from opencode.storage import schema
from opencode.storage.sql import open_store
from opencode.wiring import Services, build_services

ROUNDS = 200
STARTS = 9
BATCH = 5_000
_BAR_MS = 10.0


def fill(engine: sa.Engine, directory: Path, sessions: int, messages: int) -> str:
    """Store so many idle sessions, the last of them with so many messages; returns its id."""
    base = Session(
        id="", owner="local", title="A session", model=None, resolved_model="demo/guide", tools=("bash",),
        directory=str(directory), system=None, permission={}, created_at=timestamp(),
    )  # fmt: skip
    columns = ["owner", "title", "model", "resolved_model", "directory", "system", "permission", "created_at"]
    shared = {name: getattr(base, name) for name in columns} | {"tools": ["bash"]}
    ids = [new_id("ses") for _ in range(sessions)]
    with engine.begin() as connection:
        for start in range(0, sessions, BATCH):
            rows = [{"id": session_id, **shared} for session_id in ids[start : start + BATCH]]
            connection.execute(schema.sessions.insert(), rows)
    last = replace(base, id=ids[-1])
    with engine.begin() as connection:
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            connection.execute(schema.messages.insert(), [_row(last, number) for number in range(count)])
            connection.execute(schema.turns.insert(), [_turn(last) for _ in range(count // 2)])
    return last.id


def _row(session: Session, number: int) -> dict[str, object]:
    message = Message(
        id=new_id("msg"), session_id=session.id, turn_id="trn_x", created_at=timestamp(),
        role="assistant" if number % 2 else "user", content="word " * 40,
    )  # fmt: skip
    names = ("id", "session_id", "turn_id", "role", "content", "status", "tokens", "created_at")
    return {name: getattr(message, name) for name in names}


def _turn(session: Session) -> dict[str, object]:
    turn = {"id": new_id("trn"), "session_id": session.id, "owner": session.owner, "state": "completed", "attempt": 1}
    return turn | {"model": "demo/guide", "content": "", "user_message_id": "", "message_id": "", "created_at": ""}


@dataclass(frozen=True, slots=True)
class Filled:
    """A store with so much in it; `session_id` is the session with the messages."""

    settings: Settings
    session_id: str

    @classmethod
    def make(cls, place: Path, sessions: int, messages: int) -> "Filled":
        data_dir, work = place / "data", place / "work"
        work.mkdir(parents=True)
        open_store(None, data_dir).close()
        engine = sa.create_engine(f"sqlite:///{data_dir / 'store.sqlite3'}")
        session_id = fill(engine, work, sessions, messages)
        engine.dispose()
        given = {"data_dir": data_dir, "directory": work, "model": "demo/guide", "rate_limit": False}
        return cls(Settings.model_validate(given | {"log_level": "error"}), session_id)

    def start(self) -> Services:
        return build_services(self.settings, {"PATH": "/usr/bin:/bin"})


def compare(small: Callable[[], object], large: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median time of each in ms; in turns, so that a machine that is busy for a while is so for both."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for ask, own in zip((small, large), times, strict=True):
            started = time.perf_counter()
            ask()
            if number:  # the first one of each is warmer for none
                own.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[0]), statistics.median(times[1])


def measure(small: Filled, large: Filled) -> dict[str, tuple[float, float]]:
    both = (small, large)
    starts = [lambda own=own: own.start().stop(0.0) for own in both]
    found = {"opening the store, what was unfinished, closing": compare(*starts, STARTS)}
    running = [own.start() for own in both]
    clients = [create_app(services=services).test_client() for services in running]

    def get(client: FlaskClient, path: str) -> Callable[[], object]:
        def ask() -> None:
            response = client.get(path)
            assert response.status_code == 200, response.text

        return ask

    pages = {
        "GET /api/sessions": ["/api/sessions"] * 2,
        "GET /api/session/<id>, the last 100 messages": [f"/api/session/{own.session_id}" for own in both],
    }
    for name, paths in pages.items():
        found[name] = compare(*map(get, clients, paths), ROUNDS)
    for services in running:
        services.stop(0.0)
    return found


def run(*, quick: bool) -> list[Table]:
    sessions, messages = (5_000, 1_000) if quick else (100_000, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        small = Filled.make(Path(folder) / "small", 100, 100)
        found = measure(small, Filled.make(Path(folder) / "large", sessions, messages))
    made = Table("Pages", ("median, ms", "100 / 100", f"{sessions} / {messages}", "ratio", "bar"))
    for name, (before, after) in found.items():
        bar = against(after, _BAR_MS, "{:.0f} ms") if name.startswith("GET") else ""
        made.add(name, f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}", bar)
    return [made]
