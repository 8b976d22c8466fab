"""The tool `write`."""

import os
import stat

import pytest

from opencode.tool.port import FileChange
from tests.tool.desk import Background, Desk


def test_a_new_file_is_made_with_the_folders_above_it(desk):
    assert desk.works("write", path="src/deep/a.txt", content="é\r\n") == "Created src/deep/a.txt (4 bytes)."

    assert (desk.directory / "src/deep/a.txt").read_bytes() == "é\r\n".encode()
    assert desk.changes == [FileChange("src/deep/a.txt", None, "é\r\n".encode())]


def test_a_file_is_replaced_and_keeps_its_mode(desk):
    file = desk.put("run.sh", "old")
    file.chmod(0o750)

    assert desk.works("write", path="run.sh", content="new").startswith("Replaced run.sh")

    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o750
    assert desk.changes == [FileChange("run.sh", b"old", b"new")]


def test_a_new_file_has_the_mode_that_the_umask_leaves(desk):
    before = os.umask(0o027)
    try:
        desk.works("write", path="a.txt", content="x")
    finally:
        os.umask(before)

    assert stat.S_IMODE((desk.directory / "a.txt").stat().st_mode) == 0o640


def test_an_empty_file_can_be_written(desk):
    desk.works("write", path="a.txt", content="")

    assert (desk.directory / "a.txt").read_bytes() == b""
    assert desk.changes == [FileChange("a.txt", None, b"")]


def test_the_same_content_is_no_change(desk):
    file = desk.put("a.txt", "same")
    before = file.stat()

    assert "already" in desk.works("write", path="a.txt", content="same")

    assert file.stat() == before
    assert desk.changes == []


def test_whoever_has_the_old_file_open_still_reads_it_whole(desk):
    file = desk.put("a.txt", "old " * 1000)

    with file.open() as reader:
        desk.works("write", path="a.txt", content="new")
        assert reader.read() == "old " * 1000


def test_a_file_written_through_a_symlink_leaves_the_symlink(desk):
    desk.put("real/a.txt", "old")
    (desk.directory / "link.txt").symlink_to("real/a.txt")

    desk.works("write", path="link.txt", content="new")

    assert (desk.directory / "link.txt").is_symlink()
    assert (desk.directory / "real/a.txt").read_text() == "new"
    assert desk.changes == [FileChange("real/a.txt", b"old", b"new")]


def test_content_over_the_limit_is_refused(tmp_path):
    desk = Desk(tmp_path, write={"size_limit": 10})

    desk.works("write", path="a.txt", content="é" * 5)
    message = desk.fails("write", path="b.txt", content="é" * 6)

    assert "`content` has 12 bytes, over the limit of 10" in message
    assert desk.names() == {"a.txt"}


def test_a_file_over_the_limit_is_not_replaced(tmp_path):
    desk = Desk(tmp_path, write={"size_limit": 10})
    desk.put("big.log", "x" * 11)

    assert "big.log has 11 bytes" in desk.fails("write", path="big.log", content="new")

    assert (tmp_path / "big.log").read_text() == "x" * 11


@pytest.mark.parametrize("tool", ["write", "edit"])
def test_a_read_only_file_is_refused(desk, tool):
    desk.put("a.txt", "old").chmod(0o444)
    arguments = {"write": {"content": "new"}, "edit": {"old_string": "old", "new_string": "new"}}[tool]

    assert desk.fails(tool, path="a.txt", **arguments) == "a.txt is read-only."

    assert desk.names() == {"a.txt"}
    assert desk.changes == []


def test_a_failure_leaves_nothing_behind(desk):
    # Given a folder that appears where the file was to go, which is seen only when the file takes its place
    desk.put("folder/a.txt", "x")
    desk.put("name")

    # When
    desk.fails("write", path="folder", content="new")
    desk.fails("write", path="name/a.txt", content="new")
    desk.fails("write", path=f"{'n' * 256}", content="new")

    # Then
    assert desk.names() == {"folder", "folder/a.txt", "name"}
    assert desk.changes == []


def test_writers_at_once_leave_one_whole_file_and_nothing_else(desk):
    contents = [str(number) * 10_000 for number in range(8)]
    calls = [Background(lambda text=text: desk.call("write", path="a.txt", content=text)) for text in contents]
    outcomes = [call.join() for call in calls]

    assert (desk.directory / "a.txt").read_text() in contents
    assert desk.names() == {"a.txt"}
    assert len(desk.changes) == sum(not outcome.is_error for outcome in outcomes) >= 1
