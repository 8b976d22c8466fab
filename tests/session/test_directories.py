"""What lies in the directories of sessions, and that nothing else is read on their behalf."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opencode.errors import InvalidRequest, SettingsError
from opencode.provider.port import Text, ToolCall
from opencode.session import vcs
from opencode.session.directories import Directories
from opencode.session.prompt import system_prompt
from tests.contracts.stored import a_session
from tests.session.story import Story

ALL = ["bash", "read", "write", "edit", "grep", "glob", "list"]
SECRET = "apple of the neighbour"
_numbers = itertools.count()


@pytest.fixture
def place(tmp_path):
    """A root `work`, and a neighbour with a repository, notes and a secret."""
    work, outside = tmp_path / "work", tmp_path / "outside"
    for folder in (work, outside / ".git"):
        folder.mkdir(parents=True)
    (outside / ".git" / "HEAD").write_text(f"ref: refs/heads/{SECRET}\n")
    (outside / "HEAD").write_text(f"ref: refs/heads/{SECRET}\n")
    (outside / "AGENTS.md").write_text(SECRET)
    return tmp_path


def use(tool, **params):
    return ToolCall(f"call_{next(_numbers)}", tool, params)


def within(place, **values):
    return Directories((place / "work",), place / "work", **values)


def told(place):
    """What a model is told of a session in the root."""
    return system_prompt(a_session(directory=str(place / "work")), within(place))


@pytest.mark.parametrize("pointer", ["../outside/.git", "{}/outside/.git", "../outside", "/proc/self/cwd"])
def test_a_pointer_to_a_repository_outside_is_not_followed(place, pointer):
    (place / "work" / ".git").write_text(f"gitdir: {pointer.format(place)}\n")

    assert vcs.find(place / "work", within(place)) == vcs.Repository("git", None)
    assert SECRET not in told(place)


@pytest.mark.parametrize("link", [".git", ".git/HEAD"])
def test_a_repository_behind_a_symlink_to_the_outside_is_not_read(place, link):
    target = place / "work" / link
    target.parent.mkdir(exist_ok=True)
    target.symlink_to(place / "outside" / link)

    found = vcs.find(place / "work", within(place))

    assert found is None or found.branch is None
    assert SECRET not in told(place)


def test_a_repository_that_begins_above_the_root_is_not_looked_for(place):
    shutil.copytree(place / "outside" / ".git", place / ".git")

    assert vcs.find(place / "work", within(place)) is None


def test_a_symlink_within_the_root_is_followed(place):
    shutil.copytree(place / "outside" / ".git", place / "work" / "real")
    (place / "work" / ".git").symlink_to("real")

    assert vcs.find(place / "work", within(place)) == vcs.Repository("git", SECRET)


@pytest.mark.parametrize("name", [".git", ".git/HEAD", "AGENTS.md"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "huge", "device"])
def test_what_is_no_file_is_not_waited_for_and_what_is_huge_not_read_whole(place, name, kind):
    target = place / "work" / name
    target.parent.mkdir(exist_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(target)
        case "folder":
            target.mkdir()
        case "device":
            target.symlink_to("/dev/zero")
        case "huge":
            with target.open("wb") as file:
                file.truncate(1 << 40)

    assert len(told(place)) < 100_000


def test_notes_behind_a_symlink_are_not_read(place):
    (place / "work" / "AGENTS.md").symlink_to(place / "outside" / "AGENTS.md")
    assert SECRET not in told(place)


@pytest.mark.parametrize("replaced", ["work", "root"])
def test_notes_of_a_directory_that_a_symlink_has_replaced_are_not_read(tmp_path, replaced):
    (tmp_path / "root" / "work").mkdir(parents=True)
    (tmp_path / "other" / "work").mkdir(parents=True)
    for folder in (tmp_path / "other", tmp_path / "other" / "work"):
        (folder / "AGENTS.md").write_text(SECRET)
    directories = Directories((tmp_path / "root",), tmp_path / "root")
    there = tmp_path / "root" / "work" if replaced == "work" else tmp_path / "root"
    there.rename(tmp_path / "gone")
    there.symlink_to(tmp_path / "other")

    assert SECRET not in system_prompt(a_session(directory=str(tmp_path / "root" / "work")), directories)


SWAPPER = """
import os, sys
print("ready", flush=True)
while os.getppid() == int(sys.argv[1]):
    os.rename("sub", "kept"); os.rename("link", "sub")
    os.rename("sub", "link"); os.rename("kept", "sub")
"""


def test_what_is_swapped_between_the_check_and_the_opening_is_not_read(place):
    work = place / "work"
    (work / "sub").mkdir()
    (work / "sub" / "AGENTS.md").write_text("apple")
    (work / "link").symlink_to(place / "outside")
    read = []
    with subprocess.Popen(
        [sys.executable, "-c", SWAPPER, str(os.getpid())], cwd=work, stdout=subprocess.PIPE
    ) as swapper:
        try:
            swapper.stdout.readline()
            deadline = time.monotonic() + 0.7
            while time.monotonic() < deadline or b"apple" not in read:
                read.append(within(place).read(work / "sub" / "AGENTS.md", 100))
                assert time.monotonic() < deadline + 30
        finally:
            swapper.kill()

    assert set(read) <= {None, b"apple"}


@pytest.mark.parametrize("path", ["data", "data/inner", "link", "/proc", "/proc/self/root", "/proc/self/cwd"])
def test_no_session_works_in_what_is_private(place, path):
    (place / "work" / "data" / "inner").mkdir(parents=True)
    (place / "work" / "link").symlink_to("data")
    directories = Directories((Path("/"),), place / "work", (place / "work" / "data", Path("/proc")))

    if path == "/proc/self/root":  # that is / itself
        assert directories.resolve(path) == Path("/")
        return
    if path == "/proc/self/cwd":
        assert directories.resolve(path) == Path.cwd()
        return
    with pytest.raises(InvalidRequest, match="outside the directories"):
        directories.resolve(path)


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "../work\n", "x" * 5000, "", ".", "\ud800"])
def test_odd_names_are_refused_or_harmless(place, path):
    if path in {"", "."}:
        assert within(place).resolve(path) == place / "work"
        return
    with pytest.raises(InvalidRequest) as refused:
        within(place).resolve(path)
    refused.value.message.encode()
    assert "\n" not in refused.value.message
    assert "\0" not in refused.value.message


# --- a server's ---


def story(tmp_path, steps, **settings):
    return Story(tmp_path, steps, **settings)


def test_a_session_whose_directory_is_in_no_root_any_more_runs_no_tool(tmp_path):
    # Given a session of a server with two roots, and the same store under one that has only the first
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "AGENTS.md").write_text(SECRET)
    steps = [[use("read", path="AGENTS.md"), use("bash", command="cat AGENTS.md")], [Text("ok")]]
    first = story(tmp_path, steps, project_roots=(str(tmp_path / "work"), str(tmp_path / "second")))
    session = first.session(directory=str(tmp_path / "second"))
    first.stop()
    second = story(tmp_path, steps)
    try:
        # When
        events = second.tell(session)
    finally:
        second.stop()

    # Then
    results = [event.data for event in events if event.name == "tool_result"]
    assert [result["is_error"] for result in results] == [True, True]
    assert all("OPENCODE_PROJECT_ROOTS" in result["result"] for result in results)
    assert SECRET not in str(events)
    assert SECRET not in str(second.provider.requests)


def test_the_data_folder_is_closed_to_a_session_around_it(tmp_path):
    # Given a server whose data lies in the directory that it serves
    (tmp_path / "work").mkdir()
    calls = [
        use("read", path=".data/lock"),
        use("write", path=".data/x", content=""),
        use("list", path=".data"),
        use("glob", pattern="**/*"),
    ]
    play = story(tmp_path, [calls, [Text("ok")]], data_dir=tmp_path / "work" / ".data")
    try:
        play.put("a.txt", "apple")
        events = play.tell(play.session(tools=ALL))
        with pytest.raises(InvalidRequest):
            play.session(directory=".data")
    finally:
        play.stop()

    results = [event.data["result"] for event in events if event.name == "tool_result"]
    assert ["belongs to the server" in result for result in results] == [True, True, True, False]
    assert results[3] == "a.txt"


def test_a_store_at_a_place_of_its_own_is_closed_as_well(tmp_path):
    (tmp_path / "work").mkdir()
    calls = [use("read", path=f"own.sqlite3{suffix}") for suffix in ("", "-wal", "-shm")]
    calls.append(use("list"))
    play = story(tmp_path, [calls, [Text("ok")]], database_url=f"sqlite:///{tmp_path / 'work' / 'own.sqlite3'}")
    try:
        events = play.tell(play.session(tools=ALL))
    finally:
        play.stop()

    results = [event.data["result"] for event in events if event.name == "tool_result"]
    assert ["belongs to the server" in result for result in results] == [True, True, True, False]
    assert "own.sqlite3" not in results[3]


@pytest.mark.parametrize("root", ["data", "data/inner", "/proc"])
def test_a_root_in_what_is_private_is_refused_with_the_fix(tmp_path, root):
    (tmp_path / "data" / "inner").mkdir(parents=True)

    with pytest.raises(SettingsError, match="OPENCODE_DATA_DIR"):
        story(tmp_path, [], project_roots=(str(tmp_path / root),))
