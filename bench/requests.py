"""What stands around a view costs a request: the limiter, authentication, CORS, each on and off; validation, the store.

    python -m bench requests [--quick]

Calls the WSGI app itself, without a server or sockets, for small answers. All kinds take turns in each round, so that a
noisy machine disturbs them alike; the median time of a request, and its ratio to the same app with everything off.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from bench.table import Table
from opencode.clock import timestamp
from opencode.ids import new_id
from opencode.records import Session
from opencode.server.factory import create_app
from opencode.server.schemas import SendMessage
from opencode.settings import Settings
from opencode.storage.sql import open_store
from opencode.wiring import build_services

TOKEN = "bench-token-of-32-characters-0001"
ORIGIN = "https://page.example"
#: More than any run makes, so that the limit is counted and never met.
PLENTY = 10_000_000

KINDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "limiter": {"rate_limit": True},
    "auth": {"auth_tokens": (TOKEN,)},
    "cors": {"cors_origins": (ORIGIN,)},
    "limiter+auth": {"rate_limit": True, "auth_tokens": (TOKEN,)},
    "all": {"rate_limit": True, "auth_tokens": (TOKEN,), "cors_origins": (ORIGIN,)},
}


def make(folder: Path, **settings: Any) -> Flask:
    """An app of one kind on a store of its own."""
    work = folder / "work"
    work.mkdir(parents=True)
    given = {"directory": work, "data_dir": folder / "data", "model": "demo/guide", "log_level": "error"}
    limits = {"rate_limit": False, "rate_limit_max_requests": PLENTY}
    return create_app(services=build_services(Settings.model_validate(given | limits | settings), {}))


def caller(app: Flask, path: str) -> Callable[[], None]:
    """Sends one request, as a server would, with all headers that any kind looks at."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if app.extensions["opencode"].settings.cors_origins:
        headers["Origin"] = ORIGIN
    environ = EnvironBuilder(path, headers=headers, environ_overrides={"REMOTE_ADDR": "127.0.0.1"}).get_environ()

    def start(status: str, _headers: list[tuple[str, str]], _exc_info: object = None) -> Callable[[bytes], object]:
        assert status.startswith("200"), status
        return lambda _data: None

    def call() -> None:
        body = app.wsgi_app(dict(environ), start)
        for _ in body:
            pass
        body.close()  # type: ignore[attr-defined] # Werkzeug's bodies have it

    return call


def timed(call: Callable[[], None], requests: int) -> float:
    """Microseconds of CPU that one request takes: other programs on the machine do not count."""
    begun = time.thread_time()
    for _ in range(requests):
        call()
    return (time.thread_time() - begun) / requests * 1e6


def checks(folder: Path, rounds: int, requests: int) -> Iterator[Table]:
    """Each kind of app, for a small answer and for the smallest."""
    apps = {name: make(folder / name, **settings) for name, settings in KINDS.items()}
    for path in ("/tui/state", "/health"):
        found: dict[str, list[float]] = {name: [] for name in apps}
        calls = {name: caller(app, path) for name, app in apps.items()}
        for _ in range(rounds):
            for name, call in calls.items():
                found[name].append(timed(call, requests))
        made = Table(f"CPU of a request: GET {path}", ("checks", "µs", "more, µs", "ratio"))
        plain = statistics.median(found["nothing"])
        for name, times in found.items():
            median = statistics.median(times)
            made.add(name, f"{median:.1f}", f"{median - plain:+.1f}", f"{median / plain:.2f}")
        yield made
    for app in apps.values():
        app.extensions["opencode"].stop(0.0)


def parts(folder: Path, rounds: int, requests: int) -> Table:
    """What of a request can be called by itself: validation, and the store."""
    store = open_store(None, folder / "store")
    session = Session(
        id=new_id("ses"), owner="local", title="", model=None, resolved_model="demo/guide", tools=("bash",),
        directory="/", system=None, permission={}, created_at=timestamp(),
    )  # fmt: skip
    store.create(session)
    body = b'{"content": "run the tests", "when_busy": "queue"}'

    def unknown() -> None:
        with store._known.changing():
            pass
        store.get("local", session.id)

    calls: dict[str, Callable[[], object]] = {
        "validation of a message's body": lambda: SendMessage.model_validate_json(body),
        "store: a session that is known": lambda: store.get("local", session.id),
        "store: a session that is read": unknown,
        "store: a session with its messages": lambda: store.snapshot("local", session.id, limit=100),
        "store: the newest 50 sessions": lambda: store.page("local", limit=50),
    }
    made = Table("CPU of a request's parts", ("part", "µs"))
    for name, call in calls.items():
        call()
        made.add(name, f"{statistics.median(timed(call, requests) for _ in range(rounds)):.1f}")
    store.close()
    return made


def run(*, quick: bool) -> list[Table]:
    rounds, requests = (3, 50) if quick else (9, 400)
    logging.disable(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return [*checks(Path(folder), rounds, requests), parts(Path(folder), rounds, requests)]
    finally:
        logging.disable(logging.NOTSET)
