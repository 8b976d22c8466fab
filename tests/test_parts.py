"""The parts in which `make test` runs the suite: nothing is left out, and what runs only once may do so."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.parts import MARKS, Part, parts, side_by_side
from scripts.runs import Run, describe, run_all
from tests.live.server import until

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
TESTS = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
ALL = parts()


# Which test is in which part


@pytest.mark.parametrize("kind", MARKS)
def test_each_test_is_in_exactly_one_part_of_each_kind(kind):
    for file in TESTS:
        takers = [part.name for part in ALL if part.kind == kind and part.takes(file)]
        assert len(takers) == 1, (file, takers)


def test_a_new_folder_is_in_a_part_by_itself():
    takers = [(part.kind, part.name) for part in ALL if part.takes(Path("tests/brand_new/test_it.py"))]

    assert sorted(takers) == [(kind, "rest") for kind in sorted(MARKS)]


def test_what_a_part_names_exists():
    named = {path for part in ALL for path in (*part.paths, *part.without)}

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_pytest_looks_where_the_part_says(tmp_path):
    for name in ("in/test_a.py", "in/out/test_b.py", "test_c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("import pytest\ndef test_it(): pass\n@pytest.mark.live\ndef test_live(): pass\n")
    part = Part("plain", "some", ("in",), without=("in/out",))

    quiet = ["-qq", "--co", "-c", os.devnull, "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *part.arguments()],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.split("\n") if "::" in line or ": " in line]

    assert found == ["in/test_a.py: 1"], done.stdout + done.stderr
    assert [part.takes(Path(name)) for name in ("in/test_a.py", "in/out/test_b.py", "test_c.py")] == [
        True,
        False,
        False,
    ]


# What is not run again under gevent

#: With these a test waits, or has something of ours that does so run in its own process.
WAITING = {"asyncio", "concurrent", "multiprocessing", "queue", "select", "selectors", "threading"}
RUNNING = {
    *("app", "make_app", "make_lasting_app", "client", "serve", "port", "store", "log", "play"),
    *("postgres", "postgres_url", "valkey"),
}


def waits(source):
    """What needs to be seen under gevent in that which is marked `once`: a whole file, or some of its tests."""
    tree = ast.parse(source)
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    once = [test for test in tests if "pytest.mark.once" in map(ast.unparse, test.decorator_list)]
    if any(ast.unparse(node) == "pytestmark = pytest.mark.once" for node in tree.body):
        once = [tree]
    found = set()
    for node in [node for part in once for node in ast.walk(part)]:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & WAITING
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & WAITING
        elif isinstance(node, ast.Name):
            found |= {node.id} & WAITING
        elif isinstance(node, ast.FunctionDef) and (node.name.startswith("test_") or node.decorator_list):
            found |= {argument.arg for argument in node.args.args} & RUNNING
    return found


def test_only_what_does_not_wait_is_left_out_under_gevent():
    sources = {str(file): (ROOT / file).read_text() for file in TESTS}
    once = {file: source for file, source in sources.items() if "pytest.mark.once" in source}

    assert "tests/test_settings.py" in once
    assert {file: waits(source) for file, source in once.items() if waits(source)} == {}


FILE = "import pytest\npytestmark = pytest.mark.once\n"
TEST = "import threading\n@pytest.mark.once\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"{FILE}import threading", {"threading"}),
        (f"{FILE}def test_it():\n    from concurrent.futures import Future", {"concurrent"}),
        (f"{FILE}def test_it(tmp_path, make_app): pass", {"make_app"}),
        (f"{FILE}@pytest.fixture\ndef own(app): pass", {"app"}),
        (f"{FILE}import json\ndef test_it(tmp_path): pass", set()),
        (f"{TEST}def test_it(): threading.Event().wait()", {"threading"}),
        (f"{TEST}def test_it(client): pass", {"client"}),
        (f"{TEST}def test_it(tmp_path): pass\ndef test_another(client): threading.Event()", set()),
    ],
)
def test_what_waits_is_noticed(source, found):
    assert waits(source) == found


# How they are run


def process(name, logs, program, *words):
    """A shell in the place of a run of pytest."""
    return Run(name, ["nice", "sh", "-c", program, name, *map(str, words)], logs / f"{name}.log")


def test_so_many_run_at_once_and_each_once(tmp_path):
    # Each waits until two are there, the last for nobody, then looks how many are.
    program = """
[ $0 = d ] && touch $1/last
touch $1/$0.here
until [ "$(ls $1/*.here | wc -l)" -ge 2 ] || [ -e $1/last ]; do sleep 0.02; done
ls $1/*.here | wc -l >> $1/seen
rm $1/$0.here
"""
    runs = [process(name, tmp_path, program, tmp_path) for name in "abcd"]
    seen = []

    run_all(runs, 2, lambda: seen.append(describe(runs)))

    counted = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(counted) == 4
    assert max(counted) == 2
    assert seen[-1] == "4 of 4 done"


def test_an_interruption_ends_all_that_run(tmp_path):
    runs = [process(name, tmp_path, 'touch "$1"; exec sleep 60', tmp_path / name) for name in "ab"]

    def interrupt():
        if all((tmp_path / name).exists() for name in "ab"):
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, 2, interrupt)

    assert time.monotonic() - began < 50, "nobody waited for them"
    until(lambda: not any(run.running() for run in runs), 30, "both to have ended")


def test_the_cores_are_busy_and_memory_suffices():
    assert 2 <= side_by_side() <= 6
