"""Run all checks: `python -m scripts.check [--lint]`.

Format, lint and types first, then the test suite in parts (`scripts/parts.py`), some of them side by side: the tests
plain, those that gevent matters to once more patched by it, as the server runs, and the live tests, which start servers
and browsers of their own and mostly wait for them. The last line sums all runs up; a check that fails without a failing
test (the linter, a run that died or found no tests) counts there as one failure.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from scripts.parts import Part, parts, side_by_side
from scripts.progress import Steps, Ticker

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".work" / "check"
RUN_LIMIT_S = 1800.0  # far above a good run on a busy machine: only a run that hangs meets it
GRACE_S = 10.0
LINTERS = {
    "ruff format --check": ("ruff", "format", "--check", "--diff", "."),
    "ruff check": ("ruff", "check", "."),
    "mypy": ("mypy",),
}
# What make, or git where a hook calls us, hands on would reach the servers and tools that the tests start. Some hundred
# of those are Pythons, so bytecode is kept, too.
_DROPPED = re.compile(
    r"MAKE\w*|MFLAGS|RUN_\w+|PORT|HOST|DIR|GIT_(DIR|WORK_TREE|INDEX_FILE|PREFIX)|PYTHONDONTWRITEBYTECODE"
)
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


class PytestRun:
    """A part of the suite, in a process group of its own; its output goes to a file in `logs`."""

    def __init__(self, part: Part, logs: Path = LOGS) -> None:
        self.name = f"{part.kind} {part.name}"
        file = f"{part.kind}-{part.name}"
        self.log = logs / f"{file}.log"
        self._counts = logs / f"{file}.json"
        self._command = [*_PATIENCE] if part.patient else []
        self._command += [sys.executable, "-m", part.module, "-p", "scripts.pytest_counts"]
        # Caches apart: the runs would overwrite each other's.
        self._command += ["--counts", str(self._counts), "-o", f"cache_dir=.pytest_cache/{file}", *part.arguments()]
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = self._took_s = 0.0

    @property
    def ended(self) -> bool:
        return bool(self._took_s)

    def start(self) -> None:
        self._began_s = time.monotonic()
        with self.log.open("wb") as log:
            self._process = start(self._command, log)

    def running(self) -> bool:
        if self._process is None or self._took_s:
            return False
        if self._process.poll() is not None:
            self._took_s = time.monotonic() - self._began_s
        elif time.monotonic() - self._began_s > RUN_LIMIT_S:
            with self.log.open("a") as log:
                log.write(f"\nstopped: not done after {RUN_LIMIT_S:.0f} s\n")
            stop([self])
        return not self._took_s

    def signal(self, number: int) -> None:
        """To it and all that it started in its group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float | None) -> None:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

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
        code = self._process.returncode if self._process else 1
        result, complaint = judge(self.counts(), code)
        output = self.log.read_text(errors="replace")
        if result.failed:
            print(f"\n--- pytest, {self.name} ---\n{output}", flush=True)
        for line in re.findall(r"^SKIPPED .*$", output, re.MULTILINE) if not result.failed else ():
            steps.say(line)
        steps.say(f"{self.name}: {complaint or closing_line([result])}, {self._took_s:.1f} s")
        return result


def start(command: list[str], log: BinaryIO | int) -> "subprocess.Popen[bytes]":
    variables = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', os.defpath)}"
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def lint(steps: Steps) -> list[Result]:
    results = []
    for title, command in LINTERS.items():
        steps.begin(title)
        process = start([sys.executable, "-m", *command], subprocess.PIPE)
        try:
            output = process.communicate()[0].decode(errors="replace")
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            print(output, flush=True)
            results.append(Result(failed=1))
        steps.end("FAILED" if process.returncode else "ok")
    return results


def run_tests(steps: Steps) -> list[Result]:
    steps.begin(f"pytest, {side_by_side()} parts at a time: plain, under gevent, live")
    runs = [PytestRun(part) for part in parts()]
    with Ticker(lambda: describe(runs)) as ticker:
        run_all(runs, side_by_side(), ticker.tick)
    return [run.finish(steps) for run in runs]


def run_all(runs: list[PytestRun], at_once: int, tick: Callable[[], None]) -> None:
    """Run them, in their order and so many at once; whatever interrupts that stops those that run."""
    waiting, running = list(runs), []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(waiting.pop(0))
                running[-1].start()
            time.sleep(0.1)
            running = [run for run in running if run.running()]
            tick()
    except BaseException:
        stop(running)
        raise


def stop(runs: list[PytestRun]) -> None:
    for number, wait_s in ((signal.SIGINT, GRACE_S), (signal.SIGKILL, None)):
        for run in runs:
            run.signal(number)
        for run in runs:
            run.wait(wait_s)


def describe(runs: list[PytestRun]) -> str:
    """How far they have come."""
    running = [run.describe() for run in runs if run.running()]
    ended = sum(run.ended for run in runs)
    return " · ".join([f"{ended} of {len(runs)} parts", *running])


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
    steps = Steps(len(LINTERS) if lint_only else len(LINTERS) + 1)
    try:
        results = lint(steps)
        if lint_only:
            return 1 if results else 0
        results += run_tests(steps)
    except KeyboardInterrupt:
        print("stopped")
        return 130
    closing = closing_line(results)
    (LOGS / "result").write_text(f"{closing}\n")
    print(f"all checks took {time.monotonic() - began_s:.0f} s\n{closing}", flush=True)
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
