import subprocess

import pytest

from opencode.session import vcs
from opencode.session.directories import Directories
from opencode.session.vcs import Repository


def find(directory, *roots):
    """Within the roots; without any, the directory's own repository is one."""
    return vcs.find(directory, Directories(roots or (directory,), directory))


def git(directory, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    return tmp_path


def test_a_repository_is_found_from_any_directory_in_it(repository):
    (repository / "a" / "b").mkdir(parents=True)

    assert find(repository) == find(repository / "a" / "b", repository) == Repository("git", "main")


def test_a_branch_may_have_slashes(repository):
    git(repository, "checkout", "-b", "feature/one")

    assert find(repository).branch == "feature/one"


def test_a_detached_head_is_on_no_branch(repository):
    git(repository, "checkout", "--detach")

    assert find(repository) == Repository("git", None)


def test_a_worktree_has_its_own_branch(repository, tmp_path_factory):
    place = tmp_path_factory.mktemp("trees") / "tree"
    git(repository, "worktree", "add", "-b", "side", str(place))

    assert find(place, place, repository) == Repository("git", "side")


def test_outside_a_repository_there_is_none(tmp_path):
    assert find(tmp_path) is None


@pytest.mark.parametrize("content", [b"gitdir: nowhere", b"nonsense", b"\xff\xfe"])
def test_a_broken_pointer_is_no_repository(tmp_path, content):
    (tmp_path / ".git").write_bytes(content)

    assert find(tmp_path) is None


def test_a_repository_without_a_head_is_none(tmp_path):
    (tmp_path / ".git").mkdir()

    assert find(tmp_path) is None


def test_no_program_is_run_whatever_the_repository_configures(repository):
    git(repository, "config", "core.fsmonitor", "touch ran; false")

    find(repository)

    assert not (repository / "ran").exists()
