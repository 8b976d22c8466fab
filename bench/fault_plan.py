"""What the provider says in each step of each turn: from the prompt alone, so that all processes know it exactly."""

import random
import re
from dataclasses import dataclass
from typing import Any

#: What a parser of streams may stumble over: line ends that are none, frames in the text, characters of several units.
_TRICKY = ("\u2028", "\n\n", "\r\n", "data: x\n\nid: 7\n", "\U0001f980", "é", "\u0085", '"', "\\n", "\ufeff", ": beat")
_PROMPT = re.compile(r"turn (?P<name>\S+) steps=(?P<steps>\d+) ledger=(?P<ledger>\S+) cuts=(?P<cuts>[01])\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, and what it gives when it runs to its end."""

    tool: str
    params: dict[str, Any]
    marker: str
    result: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: pieces of text, each with the pause after it, then calls; `cut_after` pieces it breaks off once."""

    pieces: tuple[tuple[str, float], ...]
    calls: tuple[Call, ...]
    cut_after: int | None

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


def prompt(name: str, steps: int, ledger: str, *, cuts: bool = True) -> str:
    """What is asked; `name` is the turn's own, and part of every marker in it."""
    return f"turn {name} steps={steps} ledger={ledger} cuts={int(cuts)}"


def steps_of(content: str) -> int:
    """How many answers the turn has."""
    return int(_PROMPT.fullmatch(content)["steps"])


def reply(content: str, step: int) -> Reply:
    """The answer to step `step`, counted from 1, of the turn that was begun with `content`."""
    told = _PROMPT.fullmatch(content)
    name, steps, ledger = told["name"], int(told["steps"]), told["ledger"]
    rng = random.Random(f"{name}/{steps}/{step}")  # not the ledger, which lies elsewhere in each run
    pieces = []
    for number in range(rng.randint(3, 14)):
        tricky = rng.choice(_TRICKY) if rng.random() < 0.3 else ""
        pieces.append((f"{name}.{step}.{number}{tricky} ", rng.choice((0, 0, 0.005, 0.02, 0.05))))
    calls: list[Call] = []
    if step < steps:
        kind = rng.choice(("bash", "bash", "bash", "files", "bash+bash", "bash+files"))
        for part in kind.split("+"):
            marker = f"{name}.{step}.{len(calls)}"
            calls += [_bash(rng, marker, ledger)] if part == "bash" else _files(marker, pieces[0][0])
    cut_after = rng.randrange(len(pieces)) if told["cuts"] == "1" and rng.random() < 0.12 else None
    return Reply(tuple(pieces), tuple(calls), cut_after)


def _bash(rng: random.Random, marker: str, ledger: str) -> Call:
    """Says in the ledger that it ran; its processes carry the marker, some of them in a session of their own."""
    times, pause_s = rng.randint(1, 4), rng.choice((0.02, 0.05, 0.1, 0.2))
    lines = [f"echo {marker} >> {ledger}"]
    if rng.random() < 0.4:
        lines.append(f"setsid bash -c 'exec -a {ledger}:{marker} sleep 600' >/dev/null 2>&1 &")
    lines.append(f"for n in $(seq {times}); do echo {marker} $n; (exec -a {ledger}:{marker} sleep {pause_s}); done")
    result = "".join(f"{marker} {n}\n" for n in range(1, times + 1))
    return Call("bash", {"command": "\n".join(lines)}, marker, result)


def _files(marker: str, text: str) -> list[Call]:
    path = f"{marker}.txt"
    old, new = f"first {text}\n", f"second {text}\n"
    return [
        Call("write", {"path": path, "content": old}, marker, None),
        Call("edit", {"path": path, "old_string": "first", "new_string": "second"}, marker, new),
    ]
