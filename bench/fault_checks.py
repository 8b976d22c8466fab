"""What must hold after any fault: rules over what clients saw, what the store replays and what the provider said.

Each rule gives the faults that it finds as lines of text; none means that it holds. Nothing here talks to a server, so
that tests can feed it records that are wrong in one way each.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import fault_plan
from tests.sse import Event

#: How a turn may end that the faults struck too often.
_MAY_FAIL = {"TURN_INTERRUPTED", "STORE_UNAVAILABLE"}


@dataclass(slots=True)
class Record:
    """All that is known of one session."""

    name: str
    prompts: list[str] = field(default_factory=list)
    #: What the one who asks, and one who only looks, put together from their connections.
    posted: list[Event] = field(default_factory=list)
    watched: list[Event] = field(default_factory=list)
    #: The whole log, from the store, after the last restart.
    replay: list[Event] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    work: Path | None = None
    #: Faults that the clients met on the way.
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Attempt:
    """One call of the model, as the log tells it."""

    step: int
    seq: int
    text: list[str] = field(default_factory=list)
    calls: list[Event] = field(default_factory=list)
    void: bool = False


def check(record: Record) -> list[str]:
    """All rules over one session."""
    found = [*record.faults, *ids(record.replay)]
    found += lacking(record.posted, record.replay, "the client that asks")
    found += lacking(record.watched, record.replay, "the client that looks")
    if found:
        return [f"{record.name}: {line}" for line in found]
    turns = list(split(record.replay))
    asked = [turn[0].data.get("content") for turn in turns]
    if asked != record.prompts:
        found.append(f"asked {record.prompts}, begun {asked}")
    for turn in turns:
        found += whole(turn) or said(turn)
        found += tools(turn, record.work)
    for snapshot in record.snapshots:
        if found:
            break
        found += joins(snapshot, record.replay)
    found += once(record.ledger, record.replay)
    return [f"{record.name}: {line}" for line in found]


def ids(events: Sequence[Event]) -> list[str]:
    """From 1 on, without a gap, none twice."""
    numbers = [event.seq for event in events]
    twice = [number for number, times in Counter(numbers).items() if times > 1]
    missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
    found = [f"events twice: {twice[:5]}"] if twice else []
    found += [f"events missing: {missing[:5]}"] if missing else []
    return found or ([] if numbers == sorted(numbers) else ["events out of order"])


def lacking(seen: Sequence[Event], replay: Sequence[Event], who: str) -> list[str]:
    """What a client has put together is what the store replays."""
    found = ids(seen)
    for one, other in zip(seen, replay, strict=False):
        if (one.id, one.name, one.lines) != (other.id, other.name, other.lines):
            found.append(f"event {one.id} differs: {one.name} {one.lines} was seen, {other.name} {other.lines} stored")
            break
    if len(seen) != len(replay):
        found.append(f"{len(seen)} events were seen, {len(replay)} are stored")
    return [f"{who}: {line}" for line in found]


def split(events: Sequence[Event]) -> Iterator[list[Event]]:
    """The turns of a log."""
    turn: list[Event] = []
    for event in events:
        if event.name == "turn_start" and turn:
            yield turn
            turn = []
        turn.append(event)
    if turn:
        yield turn


def whole(turn: Sequence[Event]) -> list[str]:
    """From `turn_start` to exactly one `done`, which counts them."""
    where, names = f"turn at {turn[0].id}", [event.name for event in turn]
    if names[0] != "turn_start":
        return [f"{where} begins with {names[0]}"]
    if names.count("done") != 1 or names[-1] != "done":
        return [f"{where} has {names.count('done')} done; its last event is {names[-1]}"]
    done = turn[-1].data
    found = [] if done["events"] == len(turn) else [f"{where}: done counts {done['events']} of {len(turn)} events"]
    errors = [event.data["code"] for event in turn if event.name == "error"]
    fits = done["status"] == "completed" and not errors
    fits = fits or (done["status"] == "failed" and len(errors) == 1 and set(errors) <= _MAY_FAIL)
    return found if fits else [*found, f"{where} ended as {done['status']} with {errors}"]


def attempts(turn: Sequence[Event]) -> list[Attempt]:
    """The calls of the model, with those that a later one declares void."""
    found: list[Attempt] = []
    for event in turn:
        if event.name == "step":
            if (void := event.data["discards_from"]) is not None:
                for earlier in found:
                    earlier.void = earlier.void or earlier.seq >= void
            found.append(Attempt(event.data["step"], event.seq))
        elif event.name == "text" and found:
            found[-1].text.append(event.data["content"])
        elif event.name == "tool_call" and found:
            found[-1].calls.append(event)
    return found


def said(turn: Sequence[Event]) -> list[str]:
    """Step by step what the provider said: the void a beginning of it, the rest all of it."""
    content, completed = turn[0].data["content"], turn[-1].data["status"] == "completed"
    tried, found = attempts(turn), []
    for place, attempt in enumerate(tried):
        where = f"step {attempt.step} at {attempt.seq}"
        planned, text = fault_plan.reply(content, attempt.step), "".join(attempt.text)
        cut = attempt.void or (not completed and place == len(tried) - 1 and not attempt.calls)
        if not (planned.text.startswith(text) if cut else text == planned.text):
            found.append(f"{where}: the provider said {planned.text!r}, the log {text!r}")
        calls = [(event.data["tool"], event.data["params"]) for event in attempt.calls]
        if calls != ([] if cut else [(call.tool, call.params) for call in planned.calls]):
            found.append(f"{where}: its calls are {calls}, the provider's {planned.calls}")
        follows = tried[place - 1].step + (not tried[place - 1].void) if place else 1
        if attempt.step != follows:
            found.append(f"{where} comes where step {follows} is due")
    steps = fault_plan.steps_of(content)
    valid = [attempt.step for attempt in tried if not attempt.void]
    if completed and valid != list(range(1, steps + 1)):
        found.append(f"turn at {turn[0].id} has the steps {valid} of {steps}")
    return found


def tools(turn: Sequence[Event], work: Path | None) -> list[str]:
    """Each call has one result: what the tool gave, or that it was interrupted. What was acknowledged was done."""
    found = []
    planned = {}
    for attempt in attempts(turn):
        expected = fault_plan.reply(turn[0].data["content"], attempt.step).calls
        planned |= {event.data["call_id"]: call for event, call in zip(attempt.calls, expected, strict=False)}
    results: dict[str, list[Event]] = {call_id: [] for call_id in planned}
    outputs: Counter[str] = Counter()
    live: dict[str, str] = {}
    for event in turn:
        if event.name == "tool_result":
            results.setdefault(event.data["call_id"], []).append(event)
        elif event.name == "tool_output":
            outputs[event.data["call_id"]] += 1
            live[event.data["call_id"]] = live.get(event.data["call_id"], "") + event.data["content"]
    for call_id, given in results.items():
        if len(given) != 1 or call_id not in planned:
            found.append(f"call {call_id} ({planned.get(call_id)}) has {len(given)} results")
            continue
        call, result = planned[call_id], given[0].data
        if not result["is_error"]:
            found += _acknowledged(call, result["result"], live.get(call_id, ""), work)
    return found


def _acknowledged(call: fault_plan.Call, result: str, live: str, work: Path | None) -> list[str]:
    if call.tool == "bash" and not result == live == call.result:
        return [f"{call.marker}: should give {call.result!r}, gave {result!r}, live {live!r}"]
    if call.tool == "write" and not result.startswith("Created"):
        return [f"{call.marker}: written twice? {result!r}"]
    if call.tool == "edit" and work is not None:
        kept = (work / call.params["path"]).read_bytes().decode()
        if kept != call.result:
            return [f"{call.marker}: the file should hold {call.result!r}, holds {kept!r}"]
    return []


def once(ledger: Sequence[str], replay: Sequence[Event]) -> list[str]:
    """No command ran twice; one that was acknowledged ran."""
    found = [f"{marker} ran {times} times" for marker, times in Counter(ledger).items() if times > 1]
    ran = set(ledger)
    for turn in split(replay):
        good = {e.data["call_id"] for e in turn if e.name == "tool_result" and not e.data["is_error"]}
        for attempt in attempts(turn):
            expected = fault_plan.reply(turn[0].data["content"], attempt.step).calls
            for event, call in zip(attempt.calls, expected, strict=False):
                if call.tool == "bash" and event.data["call_id"] in good and call.marker not in ran:
                    found.append(f"{call.marker} has a result, and never ran")
    return found


def joins(snapshot: dict[str, Any], replay: Sequence[Event]) -> list[str]:
    """The messages of `GET session` are the log's events up to and with its `seq`, no more and no less."""
    seq, found = snapshot["seq"], []
    if seq > len(replay):
        return [f"a snapshot is at {seq}, the log ends at {len(replay)}"]
    expected: list[tuple[str, str]] = []
    results: dict[str, str] = {}
    for turn in split(replay[:seq]):
        text = "".join("".join(attempt.text) for attempt in attempts(turn) if not attempt.void)
        expected += [("user", turn[0].data["content"]), ("assistant", text)]
        results |= {e.data["call_id"]: e.data["result"] for e in turn if e.name == "tool_result"}
    shown = [(message["role"], message["content"]) for message in snapshot["messages"]]
    for place, (one, other) in enumerate(zip(shown[::-1], expected[::-1], strict=False)):
        if one != other:
            found.append(f"message {place} from the end of the snapshot at {seq} is {one}, by the log {other}")
    if len(shown) != len(expected) and not snapshot["has_older"]:
        found.append(f"the snapshot at {seq} has {len(shown)} messages, by the log {len(expected)}")
    parts = [part for message in snapshot["messages"] for part in message.get("parts") or ()]
    return found + [
        f"snapshot at {seq}: {part} has the result {results.get(part['call_id'])!r} in the log"
        for part in parts
        if part["type"] == "tool" and part.get("result") != results.get(part["call_id"])
    ]


def processes(prefix: str) -> dict[int, str]:
    """Running processes whose command line holds `prefix`, with that line."""
    found = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if prefix in line:
            found[int(place.name)] = line[:160]
    return found
