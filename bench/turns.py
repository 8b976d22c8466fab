"""The whole path of a delta: provider's bytes, event, store, frame, socket.

python -m bench.turns [--turns 100] [--seconds 5]
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

from bench.measured import cores, cpu_s, rss_mb, server, token_provider
from bench.turn_load import Reading, Stream, connect, percentile, read, request
from tests.live.client import Client

EVERY_MS = 20
#: Turns begin one after the other, as people begin them.
START_EVERY_S = 0.02


class Ours:
    """This server."""

    name = "this server"

    def __init__(self, running):
        self.port = running.port
        self.pid = running.workers()[-1]
        self._client = Client(running)

    def session(self):
        return self._client.session()

    def start(self, session, prompt):
        """Start a turn, and give the stream that it comes by."""
        path = f"/api/session/{session}/message"
        return Stream(connect(self.port, request("POST", self.port, path, {"content": prompt})), b"event: done\n")


def paced(peer, turns, seconds):
    """So many turns at 50 tokens a second: processor time for each delta, and how old it is when it comes."""
    sessions = [peer.session() for _ in range(turns)]
    count = int(seconds * 1000 / EVERY_MS)
    cpu = cpu_s(peer.pid)
    with Reading() as reading:
        streams = []
        for session in sessions:
            streams.append(peer.start(session, f"bench {count} {EVERY_MS}"))
            reading.add(streams[-1])
            reading.run(START_EVERY_S)
        reading.finish(60 + 10 * seconds)
    cpu = cpu_s(peer.pid) - cpu
    ages = [age for stream in streams for age in stream.ages]
    assert len(ages) == turns * count, f"{len(ages)} deltas of {turns * count} came"
    return cpu / len(ages) * 1e6, percentile(ages, 0.5) * 1e3, percentile(ages, 0.99) * 1e3


def flood(peer, count):
    """One turn as fast as it goes: seconds to its end, to its first delta, and processor time for each."""
    session = peer.session()
    cpu, began = cpu_s(peer.pid), time.monotonic()
    stream = peer.start(session, f"bench {count} 0")
    ended = read(stream, 120)
    cpu = cpu_s(peer.pid) - cpu
    assert len(stream.ages) == count, f"{len(stream.ages)} deltas of {count} came"
    return ended - began, stream.first_at - began, cpu / count * 1e6


def first(peer, rounds):
    """Milliseconds from the request to the first delta, the provider answering at once."""
    times = []
    for _ in range(rounds):
        session = peer.session()
        began = time.monotonic()
        stream = peer.start(session, "bench 1 0")
        read(stream, 30)
        times.append((stream.first_at - began) * 1e3)
    return statistics.median(times), percentile(times, 0.99)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    os.sched_setaffinity(0, cores()[1])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        base_url = stack.enter_context(token_provider(Path(folder) / "provider"))
        peer = Ours(stack.enter_context(server(Path(folder) / "ours", base_url)))
        print("idle RSS", rss_mb(peer.pid))
        print("first", first(peer, 30))
        print("flood", flood(peer, 5000))
        for _ in range(2):
            print("paced", paced(peer, asked.turns, asked.seconds))
        print("RSS", rss_mb(peer.pid))


if __name__ == "__main__":
    main()
