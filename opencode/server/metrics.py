"""What `/metrics` shows, in Prometheus' text format. Labels have few values: routes, never paths; no owners, no models.

With PROMETHEUS_MULTIPROC_DIR set, as several workers need it, values are shared through files in that folder.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from opencode.changes import EndTurn
from opencode.errors import SettingsError
from opencode.session.notable import Stored

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SETTING = re.compile(r"OPENCODE_[A-Z_]+")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_STREAM_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14_400)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as exc:
        raise SettingsError(
            f"PROMETHEUS_MULTIPROC_DIR: {folder} is no folder to write to ({exc.strerror}). Name another, or unset it."
        ) from None


class Metrics:
    """The counts of one app: several apps of a process share nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Counts from zero.

        Raises:
            SettingsError: PROMETHEUS_MULTIPROC_DIR is no folder to write to, nor can it be made.
        """
        self._shared = bool(environ.get("PROMETHEUS_MULTIPROC_DIR"))
        if self._shared:
            _make_folder(Path(environ["PROMETHEUS_MULTIPROC_DIR"]))
        self._registry = registry = CollectorRegistry()
        route = ["method", "route"]
        self._requests = Counter("opencode_requests", "Requests answered.", [*route, "status"], registry=registry)
        self._durations = Histogram(
            "opencode_request_duration_seconds", "Time to the answer, without streams.", route, registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._streams = Gauge(
            "opencode_open_streams", "Event streams that are open.", registry=registry, multiprocess_mode="livesum"
        )
        self._stream_durations = Histogram(
            "opencode_stream_duration_seconds", "How long event streams stay open.", ["route"], registry=registry,
            buckets=_STREAM_SECONDS,
        )  # fmt: skip
        self._running = Gauge(
            "opencode_running_turns", "Turns that run or wait for a person.", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._turns = Counter("opencode_turns", "Turns that have ended.", ["status"], registry=registry)
        self._events = Counter("opencode_events", "Events stored in logs of sessions.", registry=registry)
        self._tokens = Counter("opencode_tokens", "Tokens of ended turns.", ["kind"], registry=registry)
        self._failures = Counter(
            "opencode_provider_errors", "Failed calls of a model's provider, retried ones too.", ["provider", "code"],
            registry=registry,
        )  # fmt: skip
        self._limits = Counter("opencode_limit_hits", "Requests refused by a limit.", ["limit"], registry=registry)
        self._unlimited = Counter(
            "opencode_limits_open", "Counts of limits that were left out, as Redis was out of reach.", registry=registry
        )

    def text(self) -> bytes:
        """All values now, of all workers."""
        if not self._shared:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # prometheus_client has no types there
        return generate_latest(registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `seconds` is the time until then."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._durations.labels(method, route).observe(seconds)

    def stream_opened(self, method: str, route: str) -> None:
        self._requests.labels(method, route, "200").inc()
        self._streams.inc()

    def stream_ended(self, route: str, seconds: float) -> None:
        self._streams.dec()
        self._stream_durations.labels(route).observe(seconds)

    def limited(self, message: str) -> None:
        """A limit refused a request; `message` names its setting."""
        found = _SETTING.search(message)
        self._limits.labels(found[0] if found else "other").inc()

    def unlimited(self) -> None:
        """A count was left out, since the limiter's storage is out of reach."""
        self._unlimited.inc()

    def stored(self, commit: Sequence[Stored]) -> None:
        """A watcher of the log: counts by commit, never by piece of text."""
        self._events.inc(sum(len(append.frames) for append in commit))
        for change in (change for append in commit for change in append.changes):
            if isinstance(change, EndTurn):
                self._turns.labels(change.state).inc()
                for kind in ("input", "output", "cached"):
                    self._tokens.labels(kind).inc(getattr(change.usage, kind))

    def turn_began(self, _sender: object, **_what: Any) -> None:
        self._running.inc()

    def turn_left(self, _sender: object, **_what: Any) -> None:
        self._running.dec()

    def provider_failed(self, _sender: object, *, provider: str, code: str) -> None:
        self._failures.labels(provider, code).inc()
