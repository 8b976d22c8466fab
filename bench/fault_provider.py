"""The provider of the fault runs: OpenAI's protocol over real HTTP, in a process that outlives every kill.

python -m bench.fault_provider --report FILE --seconds 600

It also looks at what it is asked: the model must be told the steps of the running turn exactly as it said them, and
never see a half answer again. What differs is written to the report, a line each.
"""

import argparse
import contextlib
import threading
from collections import Counter, deque
from pathlib import Path

from bench import fault_plan
from tests.wire.openai_server import OpenAIWire


class PlannedWire(OpenAIWire):
    """Answers by the last prompt of the conversation and the number of answers since."""

    def __init__(self, report, **options):
        super().__init__([], **options)
        self.requests = deque(maxlen=16)
        self._report = report
        self._asked = Counter()

    def _choose(self, request):
        messages = request.body["messages"]
        last = max(n for n, message in enumerate(messages) if message["role"] == "user")
        content = messages[last]["content"]
        if content.startswith("script "):
            return self._special(content)
        said = [message for message in messages[last + 1 :] if message["role"] == "assistant"]
        for step, message in enumerate(said, 1):
            planned = fault_plan.reply(content, step)
            if (message["content"] or "") != planned.text:
                self._complain(f"{content!r} step {step}: said {planned.text!r}, was told {message['content']!r}")
        reply = fault_plan.reply(content, len(said) + 1)
        with self._lock:
            self._asked[content, len(said)] += 1
            first = self._asked[content, len(said)] == 1
        entries = [{"text": text, "every_s": pause_s} for text, pause_s in reply.pieces]
        if first and reply.cut_after is not None:
            half = 'data: {"id":"chatcmpl-x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"con'
            return [*entries[: reply.cut_after], {"raw": half}, {"cut": True}]
        return entries + [{"tool": call.tool, "params": call.params} for call in reply.calls]

    @staticmethod
    def _special(content):
        """`script slow N`: one answer of N seconds, a piece each 0.05 s; `script big N`: N kilobytes at once."""
        _, kind, number = content.split()[:3]
        if kind == "slow":
            return [{"text": "{n} ", "repeat": round(float(number) / 0.05), "every_s": 0.05}]
        return [{"text": "x" * 1000 + " {n}\n", "repeat": int(number)}]

    def _complain(self, line):
        with self._lock, self._report.open("a") as file:
            file.write(line + "\n")


def main():
    """Print the base URL, and serve until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    with PlannedWire(options.report, api_key="sk-faults") as wire:
        print(wire.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait(options.seconds)


if __name__ == "__main__":
    main()
