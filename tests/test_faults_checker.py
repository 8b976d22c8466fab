"""The checker of the fault runs can fail: each record here is wrong in one way, and its rule says so."""

import copy
import subprocess
import sys

import pytest

from bench import fault_checks, fault_plan
from bench.fault_checks import Record, check
from tests.live.server import until
from tests.sse import Event

pytestmark = pytest.mark.once

PROMPT = next(
    content
    for content in (fault_plan.prompt(f"t{n}", 3, "/tmp/ledger", cuts=False) for n in range(1000))
    if [call.tool for call in fault_plan.reply(content, 1).calls] == ["bash"]
    and [call.tool for call in fault_plan.reply(content, 2).calls] == ["bash"]
)


class Log:
    """Writes a log as the server would."""

    def __init__(self):
        self.events = []

    def add(self, name, **data):
        import json

        seq = str(len(self.events) + 1)
        self.events.append(Event(name, (json.dumps(data),), seq, seq))
        return int(seq)

    def text(self, step, pieces=None):
        for text, _ in fault_plan.reply(PROMPT, step).pieces[:pieces]:
            self.add("text", content=text)

    def calls(self, step):
        for call in fault_plan.reply(PROMPT, step).calls:
            self.add("tool_call", tool=call.tool, params=call.params, call_id=call.marker)
            self.add("tool_output", call_id=call.marker, content=call.result)
            self.add("tool_result", result=call.result, tool=call.tool, call_id=call.marker, is_error=False)

    def done(self, status="completed"):
        self.add("done", status=status, events=len(self.events) + 1)


def good():
    """A turn of three steps; the second was cut by a crash and asked for again."""
    log = Log()
    log.add("turn_start", content=PROMPT)
    log.add("step", step=1, attempt=1, discards_from=None)
    log.text(1)
    log.calls(1)
    cut = log.add("step", step=2, attempt=1, discards_from=None)
    log.text(2, pieces=2)
    log.add("step", step=2, attempt=2, discards_from=cut)
    log.text(2)
    log.calls(2)
    log.add("step", step=3, attempt=1, discards_from=None)
    log.text(3)
    log.done()
    return record(log)


def record(log):
    events = log.events
    content = "".join(fault_plan.reply(PROMPT, step).text for step in (1, 2, 3))
    calls = [call for step in (1, 2) for call in fault_plan.reply(PROMPT, step).calls]
    parts = [{"type": "tool", "call_id": call.marker, "result": call.result} for call in calls]
    messages = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": content, "parts": parts}]
    return Record(
        "here",
        prompts=[PROMPT],
        posted=list(events),
        watched=list(events),
        replay=list(events),
        snapshots=[{"seq": len(events), "messages": messages, "has_older": False}],
        ledger=[call.marker for call in calls],
    )


def place(found, name, which=0):
    return [n for n, event in enumerate(found.replay) if event.name == name][which]


def changed(event, **data):
    import json

    return Event(event.name, (json.dumps(event.data | data),), event.id, event.last_id)


def everywhere(found, events):
    """A log that is wrong in the store, so that all agree on it."""
    numbered = [Event(event.name, event.lines, str(n), str(n)) for n, event in enumerate(events, 1)]
    found.replay, found.posted, found.watched = numbered, list(numbered), list(numbered)
    found.snapshots = []


def test_a_good_record_has_no_faults():
    assert check(good()) == []


def gap(found):
    del found.posted[5]


def duplicate(found):
    found.watched.insert(5, found.watched[5])


def lost_tail(found):
    del found.posted[-1]


def order(found):
    found.watched[3:5] = reversed(found.watched[3:5])


def differs(found):
    at = place(found, "text")
    found.posted[at] = changed(found.posted[at], content="something else")


def unstored(found):
    del found.replay[-1]


def wrong_text(found):
    at = place(found, "text")
    everywhere(found, [*found.replay[:at], changed(found.replay[at], content="wrong"), *found.replay[at + 1 :]])


def text_lost(found):
    at = place(found, "text", -1)
    events = found.replay[:at] + found.replay[at + 1 :]
    everywhere(found, [*events[:-1], changed(events[-1], events=len(events))])


def void_counts(found):
    at = place(found, "step", 2)
    everywhere(found, [*found.replay[:at], changed(found.replay[at], discards_from=None), *found.replay[at + 1 :]])


def two_dones(found):
    everywhere(found, [*found.replay, found.replay[-1]])


def no_done(found):
    everywhere(found, found.replay[:-1])


def miscounted(found):
    everywhere(found, [*found.replay[:-1], changed(found.replay[-1], events=3)])


def failed(found):
    everywhere(found, [*found.replay[:-1], changed(found.replay[-1], status="failed")])


def no_result(found):
    at = place(found, "tool_result")
    events = found.replay[:at] + found.replay[at + 1 :]
    everywhere(found, [*events[:-1], changed(events[-1], events=len(events))])


def two_results(found):
    at = place(found, "tool_result")
    events = [*found.replay[: at + 1], *found.replay[at:]]
    everywhere(found, [*events[:-1], changed(events[-1], events=len(events))])


def wrong_result(found):
    at = place(found, "tool_result")
    everywhere(found, [*found.replay[:at], changed(found.replay[at], result="no"), *found.replay[at + 1 :]])


def ran_twice(found):
    found.ledger.append(found.ledger[0])


def never_ran(found):
    del found.ledger[0]


def turn_twice(found):
    events = [*found.replay, *found.replay]
    everywhere(found, events)


def stale_snapshot(found):
    found.snapshots[0]["seq"] -= 3


def snapshot_beyond(found):
    found.snapshots[0]["seq"] += 1


def message_lost(found):
    found.snapshots[0]["messages"].pop(0)


def void_in_message(found):
    found.snapshots[0]["messages"][1]["content"] += "void"


def result_not_kept(found):
    found.snapshots[0]["messages"][1]["parts"][0]["result"] = None


def met_on_the_way(found):
    found.faults.append("a client met it")


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (gap, "events missing"),
        (duplicate, "events twice"),
        (lost_tail, "events were seen"),
        (order, "out of order"),
        (differs, "differs"),
        (unstored, "events were seen"),
        (wrong_text, "the provider said"),
        (text_lost, "the provider said"),
        (void_counts, "the provider said"),
        (two_dones, "2 done"),
        (no_done, "0 done"),
        (miscounted, "done counts"),
        (failed, "ended as failed"),
        (no_result, "0 results"),
        (two_results, "2 results"),
        (wrong_result, "should give"),
        (ran_twice, "ran 2 times"),
        (never_ran, "never ran"),
        (turn_twice, "begun"),
        (stale_snapshot, "by the log"),
        (snapshot_beyond, "the log ends at"),
        (message_lost, "1 messages"),
        (void_in_message, "by the log"),
        (result_not_kept, "has the result"),
        (met_on_the_way, "a client met it"),
    ],
)
def test_each_rule_can_fail(tamper, said):
    found = copy.deepcopy(good())
    tamper(found)
    faults = check(found)
    assert any(said in line for line in faults), faults


def test_a_turn_that_was_given_up_may_end_within_its_answer_and_nowhere_else():
    log = Log()
    log.add("turn_start", content=PROMPT)
    log.add("step", step=1, attempt=1, discards_from=None)
    log.text(1, pieces=2)
    log.add("error", code="TURN_INTERRUPTED", message="…")
    log.done("failed")
    found = record(log)
    text = "".join(text for text, _ in fault_plan.reply(PROMPT, 1).pieces[:2])
    found.snapshots[0]["messages"][1] = {"role": "assistant", "content": text, "parts": []}
    assert check(found) == []

    at = place(found, "error")
    everywhere(found, [*found.replay[:at], changed(found.replay[at], code="PROVIDER_ERROR"), *found.replay[at + 1 :]])
    assert any("ended as failed" in line for line in check(found))


def test_a_process_that_is_left_over_is_found(tmp_path):
    # A name that no other process has, as the tools' processes have it
    command = [sys.executable, "-c", f"import time; time.sleep(60)  # {tmp_path}/ledgers/x"]
    process = subprocess.Popen(command)
    try:
        # A process has no command line for a moment while its program is put in place.
        until(lambda: process.pid in fault_checks.processes(f"{tmp_path}/ledgers"), 30, "the process to be found")
    finally:
        process.kill()
        process.wait()
    assert fault_checks.processes(f"{tmp_path}/ledgers") == {}


def test_a_reader_notices_what_a_browser_would_pass_over():
    from bench.fault_client import Reader
    from tests.sse import Malformed

    faults = []
    reader = Reader([], faults, "reader")
    events = good().replay
    reader.take(events[0])
    with pytest.raises(Malformed):
        reader.take(events[2])
    reader.take(changed(events[0], content="another"))
    reader.take(Event("text", ("{}",), None, ""))
    assert [line.split(":")[0] for line in faults] == ["reader"] * 3
    assert "came after event 1" in faults[0]
    assert "event 1 was" in faults[1]
    assert "without an id" in faults[2]
