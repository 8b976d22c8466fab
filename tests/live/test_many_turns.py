"""Hundreds of turns in one worker, and a health route that answers all the while."""

import json
import os
import statistics
import threading
import time
from pathlib import Path

import pytest

from tests.live.client import Client, text_of
from tests.live.load import Load
from tests.live.server import Server
from tests.sse import check_turn

TURNS, WIRE_TURNS = 200, 30
DELTAS, EVERY_S = 100, 0.02
EXPECTED = "".join(f"token-{n} " for n in range(1, DELTAS + 1))
STREAM = [{"text": "token-{n} ", "repeat": DELTAS, "every_s": EVERY_S}]
HEALTH_S = 0.05


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    home = tmp_path_factory.mktemp("busy")
    (home / "script.json").write_text(json.dumps({"turns": [STREAM], "loop": True}))
    with Server.serve(
        home,
        OPENCODE_MODEL="scripted/script",
        OPENCODE_SCRIPT=home / "script.json",
        OPENCODE_RATE_LIMIT="off",
        OPENCODE_LOG_LEVEL="warning",
    ) as server:
        yield server


class Health:
    """Asks for the server's health again and again while the block runs; `times` are what the answers took."""

    def __init__(self, client):
        self._client = client
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.times = []

    def _ask(self):
        while not self._over.wait(0.02):
            began = time.perf_counter()
            assert self._client.call("GET", "/health").status == 200
            self.times.append(time.perf_counter() - began)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._over.set()
        self._thread.join()

    @property
    def median(self):
        return statistics.median(self.times)


def cpu_s(pid):
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many_turns(server, count, prompt, record):
    """Run them, check all that came; gives the median time of health, and what it may be."""
    client = Client(server)
    sessions = [client.session() for _ in range(count)]
    worker = server.workers()[-1]
    cpu, began = cpu_s(worker), time.monotonic()
    load = Load(client, sessions, prompt)
    try:
        with Health(client) as health:
            load.run(100)
    finally:
        load.close()
    took = time.monotonic() - began
    cpu = cpu_s(worker) - cpu
    for session in sessions:
        events = load.events(session)
        check_turn(events, after=0)
        assert text_of(events) == EXPECTED
        assert len(events) == DELTAS + 3
        assert events[-1].data["status"] == "completed"
    times = sorted(health.times)
    figures = (
        f"{count} turns ({load.at_once} at once), {count * DELTAS} tokens in {took:.1f} s (at best {DELTAS * EVERY_S:.1f}),"
        f" worker {cpu:.1f} s of cpu; health: median {health.median * 1000:.1f} ms,"
        f" 90% {times[len(times) * 9 // 10] * 1000:.0f} ms, worst {times[-1] * 1000:.0f} ms, {len(times)} asked"
    )
    record(figures)
    assert load.at_once > count * 0.9
    # Where the machine cannot give 50 tokens a second to each, nobody waits longer for health than for a few tokens.
    return health.median, max(HEALTH_S, 4 * took / DELTAS)


@pytest.fixture
def record(record_property, capsys):
    """Figures are shown even where the test passes."""

    def show(figures):
        record_property("figures", figures)
        with capsys.disabled():
            print(f"\n  {figures}")

    return show


def answers_in_time(measure):
    """Again where it was late: a shared machine may have been busy with something else."""
    for _try in range(3):
        median, limit = measure()
        if median <= limit:
            return
    raise AssertionError(f"health answered after {median:.3f} s at the median, more than {limit:.3f} s, three times")


def test_200_turns_at_once_are_whole_and_in_order_and_health_answers(busy, record):
    answers_in_time(lambda: many_turns(busy, TURNS, "go", record))


def test_turns_whose_provider_is_behind_http_do_not_disturb_each_other(server, openai_wire, record):
    prompt = openai_wire.script([STREAM], loop=True)
    answers_in_time(lambda: many_turns(server, WIRE_TURNS, prompt, record))


def test_an_answer_of_many_small_pieces_comes_as_it_is_said(busy):
    client = Client(busy)
    with client.post(client.session(), "go") as stream:
        began = time.monotonic()
        stream.read_to("text")
        first = time.monotonic() - began
        stream.rest()
        whole = time.monotonic() - began
    assert first < whole / 2
