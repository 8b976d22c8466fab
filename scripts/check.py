"""Run all checks: `python -m scripts.check [--lint]`.

Format and lint first. Then types, and the test suite in parts (`scripts/parts.py`), some of them side by side: plain;
those tests that gevent matters to once more patched by it, as the server runs; and the live tests, which start servers
and browsers of their own and mostly wait for them. The last line sums all runs up; a check that fails without a failing
test (the linter, a run that died or found no tests) counts there as one failure.
"""

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from scripts.parts import Part, parts, side_by_side
from scripts.progress import Steps, Ticker
from scripts.runs import ROOT, Run, describe, run_all

LOGS = ROOT / ".work" / "check"
LINTERS = {
    "ruff format --check": ("ruff", "format", "--check", "--diff", "."),
    "ruff check": ("ruff", "check", "."),
}
TYPES = {"mypy": ("mypy",)}
_PATIENCE = ("nice", "-n", "5")


@dataclass(frozen=True, slots=True)
class Result:
    """One check's share of the closing line."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


def closing_line(results: list[Result]) -> str:
    passed, failed, skipped = (sum(getattr(r, name) for r in results) for name in ("passed", "failed", "skipped"))
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def judge(counts: dict[str, int], exit_code: int) -> tuple[Result, str]:
    """What one pytest run amounts to, and what is to be said of it where no failing test says it."""
    result = Result(counts.get("passed", 0), counts.get("failed", 0), counts.get("skipped", 0))
    complaint = ""
    if not counts.get("finished"):
        complaint = f"pytest died (exit code {exit_code})"
    elif not counts.get("total"):
        complaint = "pytest found no tests"
    elif exit_code and not result.failed:
        complaint = f"pytest ended with exit code {exit_code}"
    if complaint:
        result = Result(result.passed, result.failed + 1, result.skipped)
    return result, complaint


class LintRun(Run):
    """A linter, or the checker of types."""

    def __init__(self, name: str, words: tuple[str, ...]) -> None:
        super().__init__(name, [sys.executable, "-m", *words], LOGS / f"{words[0]}.log")

    def finish(self, steps: Steps) -> Result:
        """Report; its output where it complains."""
        if self.exit_code:
            print(f"\n--- {self.name} ---\n{self.output}", flush=True)
        steps.say(f"{self.name}: {'FAILED' if self.exit_code else 'ok'}, {self.took_s:.1f} s")
        return Result(failed=1 if self.exit_code else 0)


class PytestRun(Run):
    """A part of the suite."""

    def __init__(self, part: Part) -> None:
        file = f"{part.kind}-{part.name}"
        self._counts = LOGS / f"{file}.json"
        command = [*_PATIENCE] if part.patient else []
        command += [sys.executable, "-m", part.module, "-p", "scripts.pytest_counts", "--counts", str(self._counts)]
        # Caches apart: the runs would overwrite each other's.
        command += ["-o", f"cache_dir=.pytest_cache/{file}", *part.arguments()]
        super().__init__(f"{part.kind} {part.name}", command, LOGS / f"{file}.log")

    def counts(self) -> dict[str, int]:
        try:
            counts: dict[str, int] = json.loads(self._counts.read_text())
        except (OSError, ValueError):
            return {}
        return counts

    def describe(self) -> str:
        counts = self.counts()
        done = sum(counts.get(name, 0) for name in ("passed", "failed", "skipped"))
        failed = f" ({counts['failed']} failed)" if counts.get("failed") else ""
        return f"{self.name} {done} of {counts.get('total', '?')}{failed}"

    def finish(self, steps: Steps) -> Result:
        """Report; the whole output where something failed, else only what was skipped and why."""
        result, complaint = judge(self.counts(), self.exit_code)
        output = self.output
        if result.failed:
            print(f"\n--- pytest, {self.name} ---\n{output}", flush=True)
        for line in re.findall(r"^SKIPPED .*$", output, re.MULTILINE) if not result.failed else ():
            steps.say(line)
        steps.say(f"{self.name}: {complaint or closing_line([result])}, {self.took_s:.1f} s")
        return result


def run_side_by_side(runs: Sequence[LintRun | PytestRun], steps: Steps) -> list[Result]:
    with Ticker(lambda: describe(runs)) as ticker:
        run_all(runs, side_by_side(), ticker.tick)
    return [run.finish(steps) for run in runs]


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    lint_only = arguments == ["--lint"]
    if arguments and not lint_only:
        print("usage: python -m scripts.check [--lint]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    began_s = time.monotonic()
    steps = Steps(1 if lint_only else 2)
    try:
        steps.begin("format, lint")
        linters = LINTERS | TYPES if lint_only else LINTERS
        results = run_side_by_side([LintRun(*own) for own in linters.items()], steps)
        if lint_only:
            return 1 if any(result.failed for result in results) else 0
        steps.begin(f"types, and the tests in parts, {side_by_side()} at a time: plain, under gevent, live")
        checks: list[LintRun | PytestRun] = [LintRun(*own) for own in TYPES.items()]
        checks += [PytestRun(part) for part in parts()]
        results += run_side_by_side(checks, steps)
    except KeyboardInterrupt:
        print("stopped")
        return 130
    closing = closing_line(results)
    (LOGS / "result").write_text(f"{closing}\n")
    print(f"all checks took {time.monotonic() - began_s:.0f} s\n{closing}", flush=True)
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
