"""A pytest plugin that keeps a file with the counts of its run: `-p scripts.pytest_counts --counts FILE`.

The file is rewritten after each test, so that another process can show how far the run has come, and a run that
dies leaves what it had reached, with `finished` still false.
"""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--counts", type=Path, help="keep the run's counts in this file")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--counts"):
        config.pluginmanager.register(Counts(path))


class Counts:
    """Counts as the closing line wants them: an error in a fixture or in collecting is a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._counts = {"total": 0, "passed": 0, "failed": 0, "skipped": 0, "finished": False}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._add("failed")
        elif report.skipped:
            self._add("skipped")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._counts["total"] = len(session.items)
        self._write()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._add("failed")
        elif report.skipped:
            self._add("passed" if hasattr(report, "wasxfail") else "skipped")
        elif report.when == "call":
            self._add("passed")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._counts["finished"] = True
        self._write()

    def _add(self, outcome: str) -> None:
        self._counts[outcome] += 1
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._counts))
        temporary.replace(self._path)
