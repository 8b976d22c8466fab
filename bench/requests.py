"""What the checks before a view cost a request: the limiter, authentication, CORS, each on and off.

    python -m bench.requests [--rounds 9] [--requests 400]

Calls the WSGI app itself, without a server or sockets, for small answers. All kinds take
turns in each round, so that a noisy machine disturbs them alike; prints the median time of a request and its ratio to
the same app with everything off.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from opencode.server.factory import create_app
from opencode.settings import Settings
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        apps = {name: make(Path(folder) / name, **settings) for name, settings in KINDS.items()}
        for path in ("/tui/state", "/health"):
            found: dict[str, list[float]] = {name: [] for name in apps}
            calls = {name: caller(app, path) for name, app in apps.items()}
            for _ in range(options.rounds):
                for name, call in calls.items():
                    found[name].append(timed(call, options.requests))
            print(f"\n{path}")
            plain = statistics.median(found["nothing"])
            for name, times in found.items():
                median = statistics.median(times)
                print(f"  {name:14} {median:7.1f} µs  {median - plain:+7.1f} µs  {median / plain:5.2f}x")
        for app in apps.values():
            app.extensions["opencode"].stop(0.0)


if __name__ == "__main__":
    main()
