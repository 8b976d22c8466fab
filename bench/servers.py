"""Events a second of 1, 2 and 4 servers that share PostgreSQL and Redis: `python -m bench servers`.

Turns that flood are asked of all servers in turn, each by one client; another looks on through the next server, which
has the events from the store after a ring. Nothing is pinned: servers, PostgreSQL, Redis, the provider and the reading
client share the machine, and the time that an event takes is theirs together. Processor time is by kind of process.
"""

import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

from bench.measured import cpu_s, token_provider
from bench.table import Table
from bench.turn_load import Reading, Stream, connect, request
from tests.databases import Postgres, Valkey
from tests.live.client import Client
from tests.live.server import Server

_TURNS = 16
_END = b"event: done\n"
_DEADLINE_S = 120


@contextlib.contextmanager
def together(folder, count, base_url, postgres, valkey):
    """So many servers with one database of their own."""
    name = postgres.database()
    started = []
    try:
        for number in range(count):
            server = Server.serve(
                folder / f"server-{count}-{number}",
                DATABASE_URL=postgres.url(name),
                REDIS_URL=valkey.url,
                OPENCODE_MODEL="openai/bench",
                OPENAI_API_KEY="sk-bench",
                OPENAI_BASE_URL=base_url,
                OPENCODE_RATE_LIMIT="off",
                OPENCODE_LOG_LEVEL="warning",
            )
            started.append(server.start())
        for server in started:
            server.ready()
        yield started
    finally:
        for server in started:
            server.kill()
        postgres.drop(name)


def flood(servers, deltas):
    """Seconds from the first request until every client has seen the end of its turn; nothing may be missing."""
    clients = [Client(server) for server in servers]
    sessions = [clients[n % len(clients)].session() for n in range(_TURNS)]
    with Reading() as reading:
        streams = []

        def read(server, method, session, body=None):
            path = f"/api/session/{session}/message"
            streams.append(Stream(connect(server.port, request(method, server.port, path, body)), _END))
            reading.add(streams[-1])

        for number, session in enumerate(sessions):
            read(servers[(number + 1) % len(servers)], "GET", session)
        began = time.monotonic()
        for number, session in enumerate(sessions):
            read(servers[number % len(servers)], "POST", session, {"content": f"bench {deltas} 0"})
        reading.finish(_DEADLINE_S)
        took = time.monotonic() - began
        found = [len(stream.ages) for stream in streams]
        assert found == [deltas] * len(streams), f"{deltas} deltas each were sent, these came: {found}"
    return took


def _with_ended_s(pid):
    """Seconds of processor of a process, of those below it, and of those below it that have ended."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    return cpu_s(pid) + (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(servers, postgres, deltas, rounds):
    """Medians: events a second, and µs of processor for each event in the servers and in PostgreSQL."""
    rates, ours, theirs = [], [], []
    for number in range(rounds + 1):
        before = sum(cpu_s(server.pid) for server in servers), _with_ended_s(postgres.process.pid)
        events = _TURNS * deltas
        took = flood(servers, deltas)
        if number:  # the first one warms up
            rates.append(events / took)
            ours.append((sum(cpu_s(server.pid) for server in servers) - before[0]) / events * 1e6)
            theirs.append((_with_ended_s(postgres.process.pid) - before[1]) / events * 1e6)
    return tuple(map(statistics.median, (rates, ours, theirs)))


def run(*, quick):
    deltas, rounds = (200, 1) if quick else (1000, 3)
    head = ("servers", "events/s", "of one's", "CPU µs an event, servers", "of one's", "CPU µs an event, PostgreSQL")
    table = Table(f"{_TURNS} turns that flood, on several servers", head)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url = stack.enter_context(token_provider(folder / "provider"))
        databases = Postgres(), Valkey()
        for database in databases:
            stack.callback(database.remove)
        first = None
        for count in (1, 2, 4):
            with together(folder, count, base_url, *databases) as servers:
                rate, ours, theirs = measure(servers, databases[0], deltas, rounds)
            first = first or (rate, ours)
            shares = f"{rate / first[0]:.2f}", f"{ours / first[1]:.2f}"
            table.add(f"{count}", f"{rate:,.0f}", shares[0], f"{ours:.0f}", shares[1], f"{theirs:.0f}")
    cores = len(os.sched_getaffinity(0))
    table.note = f"{deltas} pieces of text a turn, each read by two clients, on {cores} cores for everything."
    return [table]
