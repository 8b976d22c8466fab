"""A plan: a generator that says things and calls tools, run anew up to where the conversation stands.

The provider holds no state, so each call of the model replays the plan against the results that are already
there. A plan is therefore a pure function of the request and of those results.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from opencode.provider.port import Reasoning, Text, ToolResult

MAX_CALLS = 18


@dataclass(frozen=True, slots=True)
class Call:
    """A tool to be called; the provider gives it its id."""

    tool: str
    params: dict[str, Any] = field(default_factory=dict)


Action = Text | Reasoning | Call
# A `Call` is answered by its result, everything else by nothing. The plan returns whether all of it was done.
Plan = Generator[Action, ToolResult, bool]


@dataclass(frozen=True, slots=True)
class Context:
    """What a plan may use: the tools offered in this session, and the line on how to connect a model."""

    tools: frozenset[str]
    hint: str


def resume(plan: Plan, results: Sequence[ToolResult]) -> list[Action]:
    """What the plan does after `results`: what it says, then at most one `Call`, which is last."""
    pending = iter(results)
    actions: list[Action] = []
    try:
        action = next(plan)
        while True:
            actions.append(action)
            if not isinstance(action, Call):
                action = next(plan)
                continue
            result = next(pending, None)
            if result is None:
                return _within_limit(actions, len(results))
            if result.tool != action.tool:
                # Another model began this turn: to report its results as ours would be a lie.
                return [Text("I cannot go on from here: these tool results are not from my plan. Please ask again.")]
            actions.clear()
            action = plan.send(result)
    except StopIteration:
        return actions or [Text("That was all.")]


def _within_limit(actions: list[Action], calls: int) -> list[Action]:
    if calls < MAX_CALLS:
        return actions
    return [Text(f"I stop here: {MAX_CALLS} tool calls are as many as I make in one turn.")]
