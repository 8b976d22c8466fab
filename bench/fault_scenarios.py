"""Faults other than kills, each on a server of its own: every scenario gives the faults that it found as lines.

python -m bench.fault_scenarios [NAME …]
"""

import argparse
import contextlib
import json
import socket
import sqlite3
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench import store_faults
from bench.fault_checks import check, lacking
from bench.fault_client import Connection, Conversation, Patience, Reader
from bench.fault_server import Target, memory_kb, provider
from bench.scenario import answer_all, asking_prompt, checked, started, told, unstored
from tests.live.client import Client
from tests.live.server import until

_SLOW_READERS = 24
#: Far more than the sockets' buffers take, so that every slow reader is far behind.
_BIG_KB = 12_000
#: What all slow readers together may cost; without a bound it would be their number times the log.
_MEMORY_KB = 32_000


def provider_cut(server):
    """The provider's connection breaks within a token: the half answer is void, the next one whole."""
    talk = Conversation(server, "cut", seed=1, patience=Patience(60))
    for _ in range(4):
        talk.ask(steps=4)
    found = checked([talk])
    void = [event for event in talk.record.replay if event.name == "step" and event.data["discards_from"]]
    codes = [event.data["code"] for event in talk.record.replay if event.name == "error"]
    return found + ([] if void else ["no answer was cut"]) + ([f"errors: {codes}"] if codes else [])


def half_open(server):
    """Clients that vanish without a word, and are reset later: the turn goes on, and they leave nothing behind."""
    client = Client(server)
    before, sockets = _descriptors(server), []
    session = client.session()
    with _post(client, session, "script slow 4") as stream:
        for _ in range(20):
            gone = Connection(client, "GET", f"/api/session/{session}/message?after=0", receive_buffer=2048)
            sockets.append(gone.socket)
        events = stream.rest()
        for gone in sockets:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
    found = [] if events[-1].data["status"] == "completed" else [f"the turn ended with {events[-1].data}"]
    try:
        # At the latest the second heartbeat tells the server that nobody is there.
        until(lambda: _descriptors(server) <= before + 2, 35, "")
    except AssertionError:
        found.append(f"{_descriptors(server)} open descriptors, {before} before 20 clients came and vanished")
    return found


def slow_readers(server):
    """One byte a second: costs bounded memory, and who reads on or comes back gets everything, once."""
    client, found = Client(server), []
    session = client.session()
    # What a turn of this size costs by itself is counted to nobody.
    with _post(client, client.session(), f"script big {_BIG_KB}") as stream:
        stream.rest()
    before = memory_kb(server.worker())
    readers = [
        Connection(client, "GET", f"/api/session/{session}/message?after=0", receive_buffer=4096)
        for _ in range(_SLOW_READERS)
    ]
    with _post(client, session, f"script big {_BIG_KB}") as stream:
        posted = stream.rest()
    for _ in range(5):
        for reader in readers:
            reader.sip()
        time.sleep(1.0)
    grown = memory_kb(server.worker()) - before
    whole = Client(server).follow(session, "?after=0&until=end").rest()
    for number, stream in enumerate(readers[:6]):
        # Every second one is cut within the log, and comes back for the rest.
        cut_at = len(whole) // 2 if number % 2 else len(whole)
        found += _read_on(client, session, stream, whole, cut_at)
        grown = max(grown, memory_kb(server.worker()) - before)
    if grown > _MEMORY_KB:
        found.append(f"{_SLOW_READERS} slow readers of {_BIG_KB} kB cost {grown} kB")
    for stream in readers:
        stream.close()
    print(f"  slow readers: {len(posted)} events, {grown} kB for {_SLOW_READERS} of them")
    return found


def _read_on(client, session, stream, whole, cut_at):
    found = []
    reader = Reader([], found, "a slow reader")
    reader.read(stream, lambda: reader.last >= cut_at)
    if reader.last < len(whole):
        again = client.follow(session, last_event_id=reader.last)
        reader.read(again, lambda: reader.last >= len(whole))
    return found + lacking(reader.events, whole, "a slow reader")


def busy(server):
    """Another process holds the database for 3 s: turns pause and go on, and nothing is shown meanwhile."""
    talks = [Conversation(server, f"busy{n}", seed=3, patience=Patience(90), cuts=False) for n in range(4)]
    threads = started([talk.ask_on for talk in talks])
    until(lambda: all(talk.poster.last > 30 for talk in talks), 30, "the turns to run")
    slowest, shown, unsaved = 0.0, [], []
    with contextlib.closing(sqlite3.connect(server.database, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(0.5)
        held = [talk.poster.last for talk in talks]
        ends = time.monotonic() + 3.0
        while time.monotonic() < ends:
            began = time.monotonic()
            Client(server).call("GET", "/health", timeout=10)
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        shown = [talk.poster.last for talk in talks]
        unsaved = unstored(server.database, talks)
        other.execute("ROLLBACK")
    found = [] if shown == held else [f"events were shown while none could be stored: {held}, then {shown}"]
    found += unsaved
    if slowest > 0.5:
        found.append(f"/health took {slowest:.2f} s while the database was held: the loop stood still")
    for talk in talks:
        talk.stop()
    told(threads, 60)
    found += checked(talks)
    codes = [e.data["code"] for talk in talks for e in talk.record.replay if e.name == "error"]
    return found + ([f"turns ended with {codes}"] if codes else [])


def disk_full(server):
    """A full disk (a small file system of its own)."""
    return store_faults.run(server, store_faults.filled(server))


def io_error(server):
    """Writes to the database fail with an I/O error."""
    return store_faults.run(server, store_faults.limited(server))


def three_stops(server, *, slow=True):
    """Three stops in a row do not spend a turn's attempts: one that waits for a person, and one in mid-answer."""
    client = Client(server)
    other = client.session()
    rules = dict.fromkeys(("bash", "write", "edit"), "ask")
    talk = Conversation(server, "stops", seed=5, patience=Patience(120), cuts=False, permission=rules)
    content = asking_prompt(talk)
    talk.record.prompts.append(content)
    slow_turn = None
    with _post(client, talk.session, content) as stream:
        first = stream.read_to("permission_request")
    for event in first:
        talk.poster.take(event)
    if slow:
        with _post(client, other, "script slow 14") as stream:
            slow_turn = stream.read_to("text")[0].data["turn_id"]
    found = []
    for number in range(3):
        with client.follow(talk.session, last_event_id=first[-1].seq) as stream:
            server.terminate()
            stream.rest()
            if not stream.told_to_come_back:
                found.append(f"stop {number + 1}: the stream was not told when to come back")
        server.wait()
        server.up()
        until(lambda: client.get(talk.session)["status"] == "waiting", 10, "the turn to wait again")
    for event in answer_all(client, talk, first[-1].data["permission_id"]):
        talk.poster.take(event)
    talk.record.watched[:] = talk.record.posted
    talk.look()
    talk.replay()
    found += check(talk.record)
    last = talk.record.replay[-1].data
    if last["status"] != "completed":
        found.append(f"the turn that waited ended with {last}")
    if slow_turn:
        until(lambda: client.get(other)["status"] == "idle", 40, "the slow turn to end")
        events = client.follow(other, "?after=0&until=end").rest()
        if events[-1].data["status"] != "completed":
            found.append(f"the slow turn ended with {[event.data for event in events[-2:]]}")
        voids = [event.data["discards_from"] for event in events if event.name == "step"]
        print(f"  three stops: attempts of the slow turn void from {voids[1:]}")
    return found


def unwatched_stops(server):
    """Three stops of a server to which nobody is connected: its turn is waited for, handed back, and goes on."""
    client, found = Client(server), []
    session = client.session()
    with _post(client, session, "script slow 12") as stream:
        stream.read_to("text")
    for _ in range(3):
        server.restart()
    until(lambda: client.get(session)["status"] == "idle", 40, "the turn to end")
    events = client.follow(session, "?after=0&until=end").rest()
    if events[-1].data["status"] != "completed":
        found.append(f"after three stops the turn ended with {[event.data for event in events[-2:]]}")
    return found


def _post(client, session, content):
    body = json.dumps({"content": content}).encode()
    return Connection(client, "POST", f"/api/session/{session}/message", body=body, timeout=60)


def _descriptors(server):
    return len(list(Path(f"/proc/{server.worker()}/fd").iterdir()))


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        provider_cut,
        half_open,
        slow_readers,
        busy,
        disk_full,
        io_error,
        three_stops,
        unwatched_stops,
    )
}


def run(name, home, base_url, **options):
    """One scenario on a server of its own: the faults that it found."""
    with contextlib.ExitStack() as stack:
        variables = {}
        if name == "disk_full":
            variables["OPENCODE_DATA_DIR"] = stack.enter_context(store_faults.small_disk(home / "disk"))
        server = Target.make(home, base_url, **variables)
        stack.callback(server.sweep)
        try:
            found = SCENARIOS[name](server.up(), **options)
            left = server.left_over()
            found += [f"left behind: {left}"] if left else []
        except store_faults.NotHere as exc:
            print(f"  {name}: left out, {exc}")
            return []
        except Exception:
            found = [traceback.format_exc()]
        return [f"{name}: {line}" for line in found]


def main():
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []], default=[])
    names = parser.parse_args().names or list(SCENARIOS)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        found = run_all(Path(folder), names)
    for line in found:
        print(f"FAULT {line[:3000]}")
    sys.exit(1 if found else 0)


def run_all(home, names=tuple(SCENARIOS), say=print):
    """The scenarios, one after the other: all faults."""
    found = []
    with provider(home / "provider", seconds=900.0) as (base_url, complaints):
        for name in names:
            began = time.monotonic()
            faults = run(name, home / name, base_url)
            found += faults
            say(f"{name}: {len(faults)} faults, {time.monotonic() - began:.0f} s")
        found += [f"the provider: {line}" for line in complaints.read_text().splitlines()]
    return found


if __name__ == "__main__":
    main()
