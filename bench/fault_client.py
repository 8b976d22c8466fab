"""Strict clients of the fault runs: they reconnect with their last id, and forgive nothing else."""

import http.client
import json
import random
import threading
import time

from bench import fault_plan
from bench.fault_checks import Record
from tests.live.client import Client, Stream
from tests.sse import Malformed

#: Longer than any restart; a heartbeat comes every 15 s, so that silence this long is a fault.
_SILENCE_S = 30.0
_PAUSE_S = 0.05
#: The server stops, or a proxy has lost it under a request.
_NOBODY = {502, 503}
_GONE = (OSError, http.client.HTTPException, AssertionError, ValueError)


class Connection(Stream):
    """A stream whose socket is closed where it does not come about."""

    def __init__(self, *args, **options):
        try:
            super().__init__(*args, **options)
        except BaseException:
            self.close()
            raise

    def sip(self):
        """Take one byte."""
        self._data += self.socket.recv(1)


class Patience:
    """How long a run may take in all."""

    def __init__(self, seconds):
        self._deadline = time.monotonic() + seconds
        self._wake = threading.Event()

    def pause(self, seconds=_PAUSE_S):
        self._wake.wait(seconds)
        if time.monotonic() > self._deadline:
            raise TimeoutError("the run took too long")


def persistently(client, patience, method, path, *, body=None, headers=None):
    """A request that is repeated until a server answers it."""
    while True:
        try:
            answer = client.call(method, path, body, headers, timeout=_SILENCE_S)
        except _GONE:
            patience.pause()
            continue
        if answer.status not in _NOBODY:
            return answer
        patience.pause()


class Reader:
    """Puts one client's view of a log together from any number of connections."""

    def __init__(self, events, faults, who):
        self.events = events
        self.unstored = []
        self.reconnects = 0
        self._faults = faults
        self._who = who

    @property
    def last(self):
        return len(self.events)

    def take(self, event):
        """The next event; one that came before, on a stream that repeats a turn, must be the same again."""
        if event.id is None:
            self.unstored.append(event)
            if event.name != "error" or event.data["code"] != "STORE_UNAVAILABLE":
                self._fault(f"{event.name} without an id: {event.lines}")
            return
        if event.name == "resync" or event.seq > self.last + 1:
            self._fault(f"{event.name} {event.id} came after event {self.last}")
            raise Malformed(f"{self._who}: {event.name} {event.id} {event.lines} after event {self.last}")
        if event.seq <= self.last:
            before = self.events[event.seq - 1]
            if (before.name, before.lines) != (event.name, event.lines):
                self._fault(f"event {event.id} was {before.name} {before.lines}, and is {event.name} {event.lines}")
            return
        self.events.append(event)

    def read(self, stream, until, *, repeats=False):
        """Read on until `until()`; False where the connection ended before."""
        try:
            with stream:
                while not until():
                    event = stream.next()
                    if event is None:
                        return until()
                    if not repeats and event.id is not None and event.name != "resync" and event.seq <= self.last:
                        self._fault(f"event {event.id} came again after {self.last}")
                    self.take(event)
                    if event.id is None and (rest := stream.rest()):
                        self._fault(f"after {event.name} without an id came {rest[0]}")
        except TimeoutError:
            self._fault(f"nothing came for {_SILENCE_S:g} s after event {self.last}, no heartbeat either")
            return False
        except Malformed as exc:
            self._fault(f"malformed: {exc}")
            return False
        except _GONE:
            self.reconnects += 1
            return False
        return True

    def _fault(self, line):
        self._faults.append(f"{self._who}: {line}")


def connect(client, patience, method, path, **options):
    """A stream with status 200; tries until there is one, and gives the body of a refusal."""
    while True:
        try:
            stream = Connection(client, method, path, timeout=_SILENCE_S, **options)
        except _GONE:
            patience.pause()
            continue
        if stream.status == 200:
            return stream, None
        try:
            body = stream.body()
        except _GONE:
            body = b""
        stream.close()
        if stream.status not in _NOBODY:
            return None, (stream.status, body)
        patience.pause()


class Conversation:
    """One session: someone who asks one thing after the other, and someone who only looks."""

    def __init__(self, server, name, *, seed, patience, cuts=True, **body):
        self.record = Record(name)
        self.client = Client(server)
        self.patience = patience
        self.turns = 0
        self._rng = random.Random(f"{seed}/{name}")
        self._cuts = cuts
        self.ledger = server.ledgers / name
        self.ledger.touch()
        self.record.work = server.work
        answer = persistently(
            self.client, patience, "POST", "/api/session", body=body, headers={"Idempotency-Key": name}
        )
        self.session = answer.json["session_id"]
        self.poster = Reader(self.record.posted, self.record.faults, "who asks")
        self.watcher = Reader(self.record.watched, self.record.faults, "who looks")
        self._stop = threading.Event()

    @property
    def path(self):
        return f"/api/session/{self.session}"

    def ask_on(self):
        """Ask until told to stop."""
        while not self._stop.is_set() and not self.record.faults:
            self.ask()

    def stop(self):
        """Ask nothing more after this turn."""
        self._stop.set()

    def ask(self, steps=None):
        """One turn, to its end."""
        self.turns += 1
        name = f"{self.record.name}.{self.turns}"
        steps = steps or self._rng.randint(1, 4)
        content = fault_plan.prompt(name, steps, str(self.ledger), cuts=self._cuts)
        self.record.prompts.append(content)
        body = json.dumps({"content": content}).encode()
        done = sum(event.name == "done" for event in self.poster.events)

        def ended():
            return self.poster.last and self.poster.events[-1].name == "done" and self._ended_turns() > done

        post = True
        while not ended() and not self.record.faults:
            if post:
                stream, refusal = connect(
                    self.client,
                    self.patience,
                    "POST",
                    f"{self.path}/message",
                    body=body,
                    headers={"Idempotency-Key": name},
                )
                if refusal:
                    self.record.faults.append(f"turn {name} was refused: {refusal}")
                    return
                self.poster.read(stream, ended, repeats=True)
            else:
                self._follow(self.poster, ended)
            # Both ways back must give the same: to look on from the last id, and to ask with the same key again.
            post = self._rng.random() < 0.3 or self.poster.last == 0 or not self._begun(name)
        self.look()

    def _ended_turns(self):
        return sum(event.name == "done" for event in self.poster.events)

    def _begun(self, name):
        return any(e.name == "turn_start" and f"turn {name} " in e.data["content"] for e in self.poster.events[-400:])

    def _follow(self, reader, until):
        headers = {"Last-Event-ID": str(reader.last)}
        stream, refusal = connect(self.client, self.patience, "GET", f"{self.path}/message", headers=headers)
        if refusal:
            self.record.faults.append(f"following after {reader.last} was refused: {refusal}")
            return
        reader.read(stream, until)

    def watch_until(self, finished):
        """Look on, leaving now and then, until all that was asked is seen and `finished()`."""
        rng = random.Random(f"{self.record.name}/watch")
        while not self.record.faults:
            leave_at = self.watcher.last + rng.randint(20, 400)

            def enough(leave_at=leave_at):
                return self.watcher.last >= leave_at or self._all_seen(finished)

            self._follow(self.watcher, enough)
            if self._all_seen(finished):
                return
            if rng.random() < 0.2:
                self.look()

    def _all_seen(self, finished):
        return finished() and self.watcher.last >= self.poster.last

    def look(self):
        """Take a snapshot; what it says is checked when the whole log is known."""
        answer = persistently(self.client, self.patience, "GET", f"{self.path}?limit=20")
        if answer.status == 200:
            self.record.snapshots.append(answer.json)
        else:
            self.record.faults.append(f"GET session: {answer.status} {answer.data!r}")

    def replay(self):
        """The whole log, as the store gives it now."""
        stream, refusal = connect(self.client, self.patience, "GET", f"{self.path}/message?after=0&until=end")
        if refusal:
            self.record.faults.append(f"the replay was refused: {refusal}")
            return
        with stream:
            self.record.replay = stream.rest()
        self.record.ledger = self.ledger.read_text().split()
