"""The whole path of a delta: provider's bytes, event, store, frame, socket; ours against opencode-ai's.

python -m bench turns [--quick], or python -m bench.turns [--quick] [--ours] for this server alone
"""

import argparse
import contextlib
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from bench.measured import cores, cpu_s, rss_mb, server, token_provider
from bench.opencode_peer import Theirs, program
from bench.table import Table, against
from bench.turn_load import Reading, Stream, connect, percentile, request
from tests.live.client import Client

EVERY_MS = 20
#: What both can carry, then as many as opencode-ai keeps up with on a core, then what this server is to carry.
LOADS = (10, 20, 100)
_ORIGIN = "https://app.example"
#: Turns begin one after the other, as people begin them.
START_EVERY_S = 0.02
_BARS = {
    "10 turns: CPU a delta, µs": (None, 1 / 8),
    "20 turns: CPU a delta, µs": (None, 1 / 8),
    "100 turns: CPU a delta, µs": (120.0, 1 / 8),
    "100 turns: age of a delta, p99, ms": (25.0, None),
    "flood: to its end, ms": (None, 1 / 4),
    "flood: CPU a delta, µs": (None, None),
    "first event, p50, ms": (8.0, 1 / 8),
    "idle RSS, MB": (90.0, None),
}


class Ours:
    """This server."""

    name = "this server"

    def __init__(self, running, token=None):
        """With `token` each request also brings an Origin, as a page elsewhere does."""
        self.port = running.port
        self.pid = running.workers()[-1]
        self._client = Client(running, token=token)
        self._headers = [f"Authorization: Bearer {token}", f"Origin: {_ORIGIN}"] if token else []

    def session(self):
        return self._client.session()

    def listen(self, turns):  # noqa: ARG002 - the peer's needs it
        """Each turn's events come by its own stream."""
        return []

    def ask(self, session, prompt):
        path = f"/api/session/{session}/message"
        data = request("POST", self.port, path, {"content": prompt}, headers=self._headers)
        return Stream(connect(self.port, data), b"event: done\n")


class Run:
    """Turns of one peer, read by one thread."""

    def __init__(self, peer, turns):
        self._peer = peer
        self._held = []
        self.streams = []
        self.reading = Reading()
        for stream in peer.listen(turns):
            self._read(stream)

    def _read(self, stream):
        self.streams.append(stream)
        self.reading.add(stream)

    def ask(self, session, prompt):
        asked = self._peer.ask(session, prompt)
        if isinstance(asked, Stream):
            self._read(asked)
        else:
            self._held.append(asked)

    @property
    def ages(self):
        return [age for stream in self.streams for age in stream.ages]

    @property
    def first_at(self):
        return self.streams[0].first_at

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.reading.__exit__(*exc)
        for connection in self._held:
            connection.close()


def paced(peer, turns, seconds):
    """So many turns at 50 tokens a second: processor time for each delta in µs, and its age in ms, p50 and p99."""
    sessions = [peer.session() for _ in range(turns)]
    count = int(seconds * 1000 / EVERY_MS)
    cpu = cpu_s(peer.pid)
    with Run(peer, turns) as run:
        for session in sessions:
            run.ask(session, f"bench {count} {EVERY_MS}")
            run.reading.run(START_EVERY_S)
        run.reading.finish(60 + 20 * seconds)
    cpu = cpu_s(peer.pid) - cpu
    _complete(run.ages, turns * count)
    return cpu / len(run.ages) * 1e6, percentile(run.ages, 0.5) * 1e3, percentile(run.ages, 0.99) * 1e3


def flood(peer, count):
    """One turn as fast as it goes: ms to its end and to its first delta, and processor time for each in µs."""
    session = peer.session()
    cpu = cpu_s(peer.pid)
    with Run(peer, 1) as run:
        began = time.monotonic()
        run.ask(session, f"bench {count} 0")
        run.reading.finish(120)
        ended = time.monotonic()
    cpu = cpu_s(peer.pid) - cpu
    _complete(run.ages, count)
    return (ended - began) * 1e3, (run.first_at - began) * 1e3, cpu / count * 1e6


def first(peer, rounds):
    """Milliseconds from the request to the first delta, p50, the provider answering at once."""
    times = []
    for _ in range(rounds):
        session = peer.session()
        with Run(peer, 1) as run:
            began = time.monotonic()
            run.ask(session, "bench 1 0")
            run.reading.finish(60)
        times.append((run.first_at - began) * 1e3)
    return statistics.median(times)


def _complete(ages, count):
    if len(ages) != count:
        raise AssertionError(f"{len(ages)} deltas of {count} came")


def measure(start, *, quick):
    """All figures of one peer; `start` gives a new life of it, `guarded` with all that may stand before a turn."""
    found = {}
    with start(guarded=True) as peer:
        time.sleep(1.0)
        found["idle RSS, MB"] = rss_mb(peer.pid)
        first(peer, 3)
        found["first event, p50, ms"] = first(peer, 5 if quick else 30)
    with start() as peer:
        first(peer, 3)
        total, _first, cpu = flood(peer, 500 if quick else 5000)
        found |= {"flood: to its end, ms": total, "flood: CPU a delta, µs": cpu}
    with start() as peer:
        first(peer, 3)
        for turns in LOADS[:1] if quick else LOADS:
            cpu, half, late = paced(peer, turns, 2 if quick else 10)
            ages = {f"{turns} turns: age of a delta, p50, ms": half, f"{turns} turns: age of a delta, p99, ms": late}
            found |= {f"{turns} turns: CPU a delta, µs": cpu, **ages}
        found["RSS after that, MB"] = rss_mb(peer.pid)
    return found


def table(ours, theirs):
    """One row a figure: ours, theirs, and how they stand to the bars."""
    made = Table("Turns at 50 tokens a second, a flood of 5,000, the first event", ("", "this server", "bar"))
    if theirs:
        made.head = ("", "this server", "bar", "opencode-ai", "ratio", "bar of the ratio")
    for name, value in ours.items():
        bar, share = _BARS.get(name, (None, None))
        row = [name, f"{value:.1f}", "" if bar is None else against(value, bar, "{:.0f}")]
        if theirs:
            ratio = value / theirs[name]
            row += [f"{theirs[name]:.1f}", f"{ratio:.3f}", "" if share is None else against(ratio, share, "{:.3f}")]
        made.add(*row)
    return made


def _guards(token):
    """What a public server has on: limits (which this load does not reach), a token, CORS, and the access log."""
    return {
        "OPENCODE_AUTH": "on",
        "OPENCODE_AUTH_TOKENS": f"bench:{token}",
        "OPENCODE_CORS_ORIGINS": _ORIGIN,
        "OPENCODE_RATE_LIMIT": "on",
        "OPENCODE_RATE_LIMIT_MAX_REQUESTS": 1_000_000,
        "OPENCODE_RATE_LIMIT_MAX_SESSIONS": 1_000_000,
        "OPENCODE_LOG_LEVEL": "info",
    }


def run(*, quick, ours_alone=False):
    """The peer is left out with `ours_alone`, and where it cannot be had."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            base_url = stack.enter_context(token_provider(Path(folder) / "provider"))
            lives = iter(range(100))

            @contextlib.contextmanager
            def ours(*, guarded=False):
                token = secrets.token_urlsafe(24) if guarded else None
                guards = _guards(token) if guarded else {}
                with server(Path(folder) / f"ours-{next(lives)}", base_url, **guards) as running:
                    yield Ours(running, token)

            @contextlib.contextmanager
            def theirs(*, guarded=False):  # noqa: ARG001 - it has nothing of the kind
                home = Path(folder) / f"theirs-{next(lives)}"
                home.mkdir()
                with contextlib.closing(Theirs(home, base_url)) as peer:
                    yield peer.ready()

            found = measure(ours, quick=quick)
            if ours_alone:
                return [table(found, None)]
            try:
                program()
            except LookupError as exc:
                made = table(found, None)
                made.note = f"opencode-ai is left out: {exc}"
                return [made]
            return [table(found, measure(theirs, quick=quick))]
    finally:
        os.sched_setaffinity(0, before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller amounts and fewer rounds")
    parser.add_argument("--ours", action="store_true", help="this server alone")
    asked = parser.parse_args()
    for made in run(quick=asked.quick, ours_alone=asked.ours):
        print(made)


if __name__ == "__main__":
    main()
