"""The scripts behind `make run` and `make test`."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import check, environment, progress, run, system_packages

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
FIND_PYTHON = ROOT / "scripts" / "find_python.sh"


# The closing line


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ([check.Result(passed=10), check.Result(passed=8)], "18 passed, 0 failed"),
        ([check.Result(10, 1, 2), check.Result(8, 0, 3)], "18 passed, 1 failed, 5 skipped"),
        ([check.Result(failed=1), check.Result(5)], "5 passed, 1 failed"),
        ([], "0 passed, 0 failed"),
    ],
)
def test_the_closing_line_sums_all_runs(results: list[check.Result], line: str):
    assert check.closing_line(results) == line


@pytest.mark.parametrize(
    ("counts", "exit_code", "failed", "complaint"),
    [
        ({"total": 3, "passed": 3, "finished": True}, 0, 0, ""),
        ({"total": 3, "passed": 2, "failed": 1, "finished": True}, 1, 1, ""),
        ({"total": 0, "finished": True}, 5, 1, "pytest found no tests"),
        ({"total": 3, "passed": 3, "finished": True}, 3, 1, "pytest ended with exit code 3"),
        ({"total": 3, "passed": 1, "finished": False}, -9, 1, "pytest died (exit code -9)"),
        ({}, 4, 1, "pytest died (exit code 4)"),
    ],
)
def test_a_run_that_does_not_end_well_is_a_failure(counts: dict, exit_code: int, failed: int, complaint: str):
    result, said = check.judge(counts, exit_code)

    assert (result.failed, said) == (failed, complaint)


def run_pytest(folder: Path, source: str) -> dict:
    (folder / "test_it.py").write_text(source)
    counts = folder / "counts.json"
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(folder), str(folder)]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "scripts.pytest_counts", "--counts", str(counts)],
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        check=False,
    )
    return json.loads(counts.read_text())


def test_the_counts_are_those_of_pytest(tmp_path: Path):
    found = run_pytest(
        tmp_path,
        """
import pytest
@pytest.fixture
def broken(): raise RuntimeError
def test_passes(): pass
def test_fails(): assert False
def test_in_a_broken_fixture(broken): pass
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail(strict=True)
def test_fails_as_expected(): assert False
""",
    )

    assert found == {"total": 5, "passed": 2, "failed": 2, "skipped": 1, "finished": True}


def test_a_file_that_cannot_be_imported_counts_as_failed(tmp_path: Path):
    assert run_pytest(tmp_path, "import nothing_of_this_name")["failed"] == 1


def test_a_run_that_dies_leaves_its_counts_unfinished(tmp_path: Path):
    found = run_pytest(tmp_path, "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)")

    assert (found["passed"], found["total"], found["finished"]) == (1, 2, False)


# Which Python


def stub_python(folder: Path, name: str, version: tuple[int, ...], *, complete: bool = True) -> None:
    """A stand-in that runs what it is given, with another version and with or without the parts for .venv."""
    prelude = f"import sys; sys.version_info = {version!r}; "
    if not complete:
        prelude += "import importlib.util; importlib.util.find_spec = lambda name: None; "
    folder.mkdir(exist_ok=True)
    stub = folder / name
    stub.write_text(f"""#!/bin/sh\nexec '{sys.executable}' -c "{prelude}$2"\n""")
    stub.chmod(0o755)


def find_python(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    shell = shutil.which("sh") or "/bin/sh"
    return subprocess.run(
        [shell, FIND_PYTHON], env={"PATH": str(folder)} | variables, capture_output=True, text=True, check=False
    )


def test_an_old_python3_is_passed_over_for_a_newer_one(tmp_path: Path):
    stub_python(tmp_path, "python3", (3, 9, 2))
    stub_python(tmp_path, "python3.12", (3, 12, 1))

    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3.12")


def test_a_python_that_can_make_environments_is_preferred(tmp_path: Path):
    stub_python(tmp_path, "python3", (3, 11, 2), complete=False)
    stub_python(tmp_path, "python3.13", (3, 13, 0))
    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3.13")

    (tmp_path / "python3.13").unlink()
    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3")


def test_the_named_python_is_the_only_candidate(tmp_path: Path):
    stub_python(tmp_path, "python3", (3, 12, 0))
    stub_python(tmp_path / "with space", "mine", (3, 10, 4))
    mine = str(tmp_path / "with space" / "mine")

    refused = find_python(tmp_path, PYTHON=mine)
    assert refused.returncode == 1
    assert f"{mine} is Python 3.10.4" in refused.stderr

    stub_python(tmp_path / "with space", "mine", (3, 11, 0))
    assert find_python(tmp_path, PYTHON=mine).stdout.strip() == mine


def test_without_a_python_the_message_says_what_to_do(tmp_path: Path):
    stub_python(tmp_path, "python3", (3, 6, 15))

    found = find_python(tmp_path)

    assert (found.returncode, found.stdout) == (1, "")
    assert "needs Python 3.11 or newer" in found.stderr
    assert "python3 is Python 3.6.15" in found.stderr
    assert "PYTHON=" in found.stderr


def test_without_the_parts_for_environments_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(environment.SetupError, match="apt install python3-venv"):
        environment.environment_module()


def test_virtualenv_stands_in_for_venv(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in {"venv", "virtualenv"} else None)

    assert environment.environment_module() == "virtualenv"


# When the environment is made and installed again


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an environment that looks made, on this very Python."""
    root = tmp_path / "project"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / "requirements.txt").write_text("flask==3.1.3\n")
    (root / "requirements-dev.txt").write_text("pytest==9.2.0\n")
    (root / "pyproject.toml").write_text('[project]\nname = "a"\n[tool.ruff]\nline-length = 100\n')
    python = root / ".venv" / "bin" / "python"
    python.write_text(f"""#!/bin/sh\nexec '{sys.executable}' "$@"\n""")
    python.chmod(0o755)
    return root


def test_nothing_is_installed_twice(project: Path):
    own = environment.Environment(project)
    assert not own.current("run")

    own.remember("run")

    assert own.current("run")
    assert not own.current("dev")


@pytest.mark.parametrize(("installed", "covered"), [("dev", {"run"}), ("bench", {"run", "dev"})])
def test_what_more_installs_covers_less(project: Path, installed: str, covered: set[str]):
    own = environment.Environment(project)
    (project / "requirements-bench.txt").write_text("uvicorn==0.54.0\n")

    own.remember(installed)

    assert {kind for kind in environment.REQUIREMENTS if own.current(kind)} == {installed, *covered}


@pytest.mark.parametrize(
    ("name", "text", "stale"),
    [
        ("requirements.txt", "flask==3.1.4\n", {"run", "dev"}),
        ("requirements-dev.txt", "pytest==9.2.1\n", {"dev"}),
        ("pyproject.toml", '[project]\nname = "b"\n', {"run", "dev"}),
        ("pyproject.toml", '[project]\nname = "a"\n[tool.ruff]\nline-length = 120\n', set()),
    ],
)
def test_a_changed_requirement_is_installed(project: Path, name: str, text: str, stale: set[str]):
    own = environment.Environment(project)
    own.remember("run")
    own.remember("dev")

    (project / name).write_text(text)

    assert {kind for kind in ("run", "dev") if not own.current(kind)} == stale


def test_another_python_is_installed_for_anew(project: Path):
    prints = {environment.fingerprint(project, "run", version) for version in ("3.11.2", "3.12.1")}

    assert len(prints) == 2


def test_a_good_environment_is_kept(project: Path):
    own = environment.Environment(project)
    own.remember("run")

    assert own.fault() == ""
    assert own.fault(wanted=sys.version_info[:3]) == ""
    assert "not the one that PYTHON names" in own.fault(wanted=(3, 99, 0))


def test_an_environment_made_by_hand_is_kept(project: Path):
    own = environment.Environment(project)
    (project / ".venv" / "bin" / "activate").write_text(f"VIRTUAL_ENV='{project / '.venv'}'\n")

    assert own.fault() == ""


def test_a_moved_clone_makes_its_environment_again(project: Path, tmp_path: Path):
    environment.Environment(project).remember("run")

    moved = project.rename(tmp_path / "elsewhere")

    assert environment.Environment(moved).fault() == "it was made at another place"


def test_an_environment_whose_python_is_gone_is_made_again(project: Path):
    own = environment.Environment(project)
    own.remember("run")
    own.python.unlink()
    own.python.symlink_to("/nowhere/python3")

    assert "does not run" in own.fault()


# Progress


def test_steps_are_numbered_and_timed():
    out = io.StringIO()
    steps = progress.Steps(2, out)

    steps.begin("first")
    steps.end("done")
    steps.begin("second")

    lines = out.getvalue().splitlines()
    assert lines[0] == "[1/2] first"
    assert lines[1].strip().startswith("done, 0.")
    assert lines[2] == "[2/2] second"


def test_pip_is_described_by_what_it_does():
    assert environment.describe_pip([]) == "0 packages found, downloading"
    assert environment.describe_pip(["Collecting a\n", "  Downloading a\n", "Collecting b==2\n"]).startswith(
        "2 packages found, downloading b==2"
    )
    assert environment.describe_pip(["Installing collected packages: a, b\n"]) == "unpacking 2 packages"


# The verbs


def test_make_lists_its_verbs():
    if not shutil.which("make"):
        pytest.skip("make is not installed")

    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for verb in ("help", "run", "test", "check", "lint", "format", "clean"):
        assert f"  make {verb} " in listed
    for variable in ("DIR=", "PORT=", "HOST=", "PYTHON="):
        assert variable in listed


def test_the_server_is_told_what_was_asked_for():
    asked = {"RUN_DIR": "/a", "RUN_HOST": "0.0.0.0", "RUN_PORT": "8080"}

    assert run.server_command(Path("/a"), asked)[1:] == ["serve", "/a", "--host", "0.0.0.0", "--port", "8080"]
    assert run.server_command(Path("/a"), {"RUN_HOST": "", "RUN_PORT": ""})[1:] == ["serve", "/a"]


def test_the_server_inherits_nothing_of_make():
    given = {
        "PORT": "8080",
        "MAKEFLAGS": "w",
        "MAKELEVEL": "1",
        "RUN_PORT": "8080",
        "ANTHROPIC_API_KEY": "k",
        "PATH": "/bin",
    }

    assert run.server_environment(given, example=False) == {"ANTHROPIC_API_KEY": "k", "PATH": "/bin"}
    assert run.server_environment(given, example=True)["PATH"].endswith(f".venv/bin{os.pathsep}/bin")


def test_each_run_of_the_example_starts_fresh_and_committed(tmp_path: Path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "__pycache__").mkdir(parents=True)
    (source / "add.py").write_text("def add(a, b): return a - b\n")
    run.fresh_copy(source, target)
    (target / "add.py").write_text("changed\n")
    (target / "new.py").write_text("new\n")

    run.fresh_copy(source, target)

    assert (target / "add.py").read_text() == "def add(a, b): return a - b\n"
    assert sorted(path.name for path in target.iterdir()) == [".git", "add.py"]
    status = subprocess.run(["git", "status", "--porcelain"], cwd=target, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_a_second_run_beside_the_first_gets_a_copy_of_its_own(tmp_path: Path):
    claimed = [run.claim(tmp_path), run.claim(tmp_path)]

    assert [path.name for path in claimed] == ["calculator", "calculator-2"]


@pytest.mark.parametrize(("user", "programs", "wanted"), [
    (0, ["apt-get"], ["bubblewrap"]),
    (0, ["apt-get", "bwrap"], []),
    (0, [], []),
    (1000, ["apt-get"], []),
])  # fmt: skip
def test_the_systems_packages_are_installed_where_they_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, programs: list[str], wanted: list[str]
):
    for name in programs:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: user)

    assert system_packages.missing() == wanted


@pytest.mark.parametrize(("apt", "installed", "asked"), [
    ("exit 0", True, ["install"]),
    ('[ "$1" = update ] && touch "$0.updated"; [ -e "$0.updated" ]', True, ["install", "update", "install"]),
    ("exit 100", False, ["install", "update"]),
])  # fmt: skip
def test_apt_is_asked_again_with_fresh_lists_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt: str, installed: bool, asked: list[str]
):
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$1" >> "$0.asked"\n{apt}\n')
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")

    assert system_packages.install(["bubblewrap"]) is installed
    assert (tmp_path / "apt-get.asked").read_text().split() == asked
