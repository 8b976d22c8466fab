"""Kills the server at random moments while many turns run, and proves that nothing that a client saw is lost.

python -m bench.faults --kills 200 --seed 1 --turns 8

Real `opencode serve` with real tools, a provider behind real HTTP, strict clients that come back with their last id.
The rules are in `fault_checks`; other faults than kills in `fault_scenarios`. Exit code 1 where a rule was broken.
"""

import argparse
import contextlib
import random
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.fault_checks import check, split
from bench.fault_client import Conversation, Patience
from bench.fault_scenarios import run_all
from bench.fault_server import Target, provider
from bench.scenario import unstored

#: A turn that dies three times is given up; kills come so seldom that most turns live.
_BETWEEN_S = (0.3, 4.5)


@dataclass(slots=True)
class Counts:
    """What a run did and found."""

    numbers: Counter = field(default_factory=Counter)
    faults: list = field(default_factory=list)

    def add(self, conversation):
        """A finished session's share."""
        record, numbers = conversation.record, self.numbers
        numbers["sessions"] += 1
        numbers["reconnects"] += conversation.poster.reconnects + conversation.watcher.reconnects
        numbers["snapshots"] += len(record.snapshots)
        numbers["events"] += len(record.replay)
        for turn in split(record.replay):
            numbers["turns"] += 1
            errors = [event.data["code"] for event in turn if event.name == "error"]
            numbers[errors[0] if errors else "turns completed"] += 1
            steps = [event.data for event in turn if event.name == "step"]
            numbers["turns taken up or asked again"] += any(step["discards_from"] for step in steps)
            results = [event.data for event in turn if event.name == "tool_result"]
            numbers["tool calls"] += len(results)
            numbers["tool calls interrupted"] += sum("outcome is unknown" in data["result"] for data in results)

    def told(self):
        """One line."""
        return ", ".join(f"{value} {name}" for name, value in self.numbers.items())


class Lane:
    """One server with its sessions and its killer."""

    def __init__(self, home, base_url, *, name, seed, kills, sessions, seconds, between, say):
        self.counts = Counts()
        self._kills = kills
        self._between = between
        self._say = say
        self._rng = random.Random(f"{seed}/{name}")
        self._patience = Patience(seconds)
        self.server = Target.make(home, base_url)
        self._name, self._seed, self._sessions = name, seed, sessions
        self._finished = threading.Event()

    def run(self):
        """Kill as often as asked, then let all come to an end, and check."""
        try:
            self._run()
        except Exception:
            self.counts.faults.append(f"{self._name}: the run itself failed\n{traceback.format_exc()}")
        finally:
            self._finished.set()
            self.server.sweep()

    def _run(self):
        self.server.up()
        talks = [
            Conversation(self.server, f"{self._name}{n}", seed=self._seed, patience=self._patience)
            for n in range(self._sessions)
        ]
        posters = [self._thread(talk.ask_on) for talk in talks]
        watchers = [self._thread(talk.watch_until, self._finished.is_set) for talk in talks]
        for number in range(1, self._kills + 1):
            self.counts.faults += unstored(self.server.database, talks)
            self._kill(number)
            if self.counts.faults or any(talk.record.faults for talk in talks):
                break
        for talk in talks:
            talk.stop()
        self._join(posters)
        self._finished.set()
        # Every session is usable after all this; those who look see it begin, and end.
        self._join([*(self._thread(talk.ask) for talk in talks), *watchers])
        for talk in talks:
            talk.watcher.events[:] = talk.watcher.events + talk.poster.events[talk.watcher.last :]
        self.server.restart()
        for talk in talks:
            talk.look()
            talk.replay()
            self.counts.faults += check(talk.record)
            self.counts.add(talk)
        self._check_left_over()

    def _kill(self, number):
        # Now and then in the midst of a start, else while all work.
        early = self._rng.random() < 0.12
        self._patience.pause(self._rng.uniform(0.0, 1.5) if early else self._rng.uniform(*self._between))
        what = self._rng.choice(("worker", "worker", "worker", "master", "both"))
        below = self.server.strike(what)
        self.counts.numbers[f"kills of {what}"] += 1
        if what != "worker":
            self.server.up()
        elif not early:
            self._answers()
        left = self.server.left_over(below)
        if left:
            self.counts.faults.append(f"{self._name}: after kill {number} ({what}) still running: {left}")
        if number % 10 == 0:
            self._say(f"{self._name}: {number} kills")

    def _answers(self):
        while True:
            with contextlib.suppress(AssertionError):
                if self.server.serves():
                    return
            self._patience.pause()

    def _check_left_over(self):
        left = self.server.left_over()
        if left:
            self.counts.faults.append(f"{self._name}: left behind: {left}")
        self.server.terminate()
        self.server.wait()
        with contextlib.closing(sqlite3.connect(self.server.database)) as store:
            if (found := store.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                self.counts.faults.append(f"{self._name}: the store is damaged: {found[:3]}")
        log = self.server.output()
        self.counts.faults += [
            f"{self._name}: the server's log has a traceback, see {self.server.home}"
            for mark in ("Traceback (most recent",)
            if mark in log
        ]

    def _thread(self, work, *args):
        def guarded():
            try:
                work(*args)
            except Exception:
                self.counts.faults.append(f"{self._name}: a client failed\n{traceback.format_exc()}")

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _join(self, threads):
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
                self._patience.pause(0.0)


def kill_run(home, *, kills, seed, turns, lanes=2, between=_BETWEEN_S, say=print, seconds=3600.0):
    """The kill loop: what it counted and found."""
    total, began = Counts(), time.monotonic()
    with provider(home / "provider", seconds=seconds) as (base_url, complaints):
        running = [
            Lane(
                home / f"lane{n}",
                base_url,
                name=f"s{seed}.{n}.",
                seed=seed,
                kills=kills // lanes + (n < kills % lanes),
                sessions=max(1, turns // lanes),
                seconds=seconds,
                between=between,
                say=say,
            )
            for n in range(lanes)
        ]
        threads = [threading.Thread(target=lane.run) for lane in running]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total.faults += [f"the provider: {line}" for line in complaints.read_text().splitlines()]
    for lane in running:
        total.numbers += lane.counts.numbers
        total.faults += lane.counts.faults
    total.numbers["seconds"] = round(time.monotonic() - began)
    return total


def main():
    """Run it, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=8, help="how many run at once")
    parser.add_argument("--lanes", type=int, default=2, help="servers that the turns are spread over")
    parser.add_argument("--kills-only", action="store_true", help="leave the other faults out")
    parser.add_argument("--keep", type=Path, help="a folder for stores and logs, kept after the run")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        found = kill_run(home, kills=options.kills, seed=options.seed, turns=options.turns, lanes=options.lanes)
        print(found.told(), flush=True)
        if not options.kills_only:
            found.faults += run_all(home)
    for line in found.faults:
        print(f"FAULT {line[:3000]}")
    print(f"{len(found.faults)} faults")
    sys.exit(1 if found.faults else 0)


if __name__ == "__main__":
    main()
