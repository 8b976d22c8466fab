"""`python -m scripts.browser`: a Chromium for the browser tests, found or installed, and never a reason to fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def prepared(folder: Path) -> "subprocess.CompletedProcess[str]":
    """What it says where nothing but `folder` holds commands."""
    return subprocess.run(
        [sys.executable, "-m", "scripts.browser"],
        cwd=ROOT,
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["chromium", "google-chrome"])
def test_one_that_is_there_is_used_without_a_word(tmp_path: Path, name: str):
    command(tmp_path, name, "exit 0")

    done = prepared(tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_none_can_be_installed_it_says_what_is_skipped_and_how_to_mend_it(tmp_path: Path):
    done = prepared(tmp_path)

    assert done.returncode == 0
    assert "will be skipped" in done.stdout
    assert "apt install chromium" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_debians_is_installed_with_a_line_that_says_so(tmp_path: Path):
    done_by = tmp_path / "asked"
    command(
        tmp_path,
        "apt-get",
        f'echo "$@" >> {done_by}; case "$*" in *install*) printf "#!/bin/sh\\n" > {tmp_path}/chromium;'
        f" {'/bin/chmod'} 755 {tmp_path}/chromium;; esac",
    )

    done = prepared(tmp_path)

    assert done.returncode == 0, done.stderr
    assert "[1/1] installing Debian's Chromium" in done.stdout
    assert f"installed {tmp_path}/chromium" in done.stdout
    updated, installed = done_by.read_text().splitlines()
    assert updated.endswith("update")
    assert installed.endswith("install --no-install-recommends chromium")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_a_failed_installation_is_told_and_fails_nothing(tmp_path: Path):
    command(tmp_path, "apt-get", "echo no network; exit 100")

    done = prepared(tmp_path)

    assert done.returncode == 0
    assert "apt-get failed (100), see .work/chromium.log" in done.stdout
    assert "apt install chromium" in done.stdout
