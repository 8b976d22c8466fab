"""Streams that only wait: the memory that each takes, what beating for all of them costs, and what is left of them."""

import contextlib
import tempfile
import time
from pathlib import Path

from bench.measured import cpu_s, processes, rss_mb
from bench.stream_load import Streams, compiled
from bench.streams import OURS, RAW, SERVERS, Shape
from bench.table import Table, against
from tests.live.server import until

#: Two beats of each, 15 s apart at the most.
WINDOW_S = 30
SETTLE_S = 3
NOTHING = Shape(1, 1, 1)


def idle(name, folder, streams, window_s, load):
    """KiB of resident memory for each stream, and the share of a core that all of them take."""
    folder.mkdir()
    with SERVERS[name](folder, NOTHING) as server:
        with Streams(load, server.port, server.path, 1) as one:  # what the first stream loads is not each one's
            one.opened()
        before = rss_mb(server.pid)
        with Streams(load, server.port, server.path, streams) as many:
            many.opened()
            time.sleep(SETTLE_S)
            each = (rss_mb(server.pid) - before) * 1e6 / 1024 / streams
            used, began = cpu_s(server.pid), time.monotonic()
            time.sleep(window_s)
            return each, (cpu_s(server.pid) - used) / (time.monotonic() - began)


def sockets(pid):
    """Open sockets of all processes of a server."""
    found = 0
    for process in processes(pid):
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found += descriptor.readlink().name.startswith("socket:")
    return found


def come_and_go(folder, rounds, streams, load):
    """After each round: MB of resident memory, and seconds until the last of its streams was released."""
    folder.mkdir()
    with SERVERS[OURS](folder, NOTHING) as server:
        before = sockets(server.pid)
        found = [(rss_mb(server.pid), 0.0)]
        for _ in range(rounds):
            with Streams(load, server.port, server.path, streams) as many:
                many.opened()
            left = time.monotonic()
            until(lambda: sockets(server.pid) <= before, 120, "all streams to be released")
            found.append((rss_mb(server.pid), time.monotonic() - left))
    return found


def run(*, quick):
    streams, window_s, names = (
        (1000, 16, [OURS]) if quick else (10_000, WINDOW_S, [name for name in SERVERS if name != RAW])
    )
    rounds, each_round = 3, 200 if quick else 10_000
    waiting = Table(f"{streams:,} idle streams", ("server", "RSS a stream, KiB", "CPU, all of them, % of a core"))
    with tempfile.TemporaryDirectory() as name:
        load, _ = compiled(name)
        found = {
            server: idle(server, Path(name) / str(number), streams, window_s, load)
            for number, server in enumerate(names)
        }
        left = come_and_go(Path(name) / "rounds", rounds, each_round, load)
    for server, (each, share) in found.items():
        waiting.add(server, f"{each:.1f}", f"{share * 100:.2f}")
    each, share = found[OURS]
    waiting.note = (
        f"RSS a stream {against(each, 24, '{:.1f}')} KiB. "
        f"CPU with a beat every 13 to 14 s {against(share * 100, 1.5)} %."
    )
    leaving = Table(
        f"Rounds of {each_round:,} streams that come and go", ("after round", "RSS, MB", "released within, ms")
    )
    for number, (memory, seconds) in enumerate(left):
        leaving.add(str(number), f"{memory:.1f}", f"{seconds * 1000:.0f}" if number else "")
    grown = left[-1][0] - left[2][0]
    leaving.note = f"From the second round to the third {grown:+.1f} MB, {against(grown, 5, '{:.0f}')} MB."
    return [waiting, leaving]
