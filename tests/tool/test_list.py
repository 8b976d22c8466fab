"""The tool `list`."""

import os

from tests.tool.desk import Desk


def test_folders_come_first_and_files_have_sizes(desk):
    desk.put("b.txt", "x" * 1234)
    desk.put("a.txt")
    desk.put("zoo/inner.txt")
    desk.put(".git/config")
    (desk.directory / "link").symlink_to("b.txt")
    os.mkfifo(desk.directory / "pipe")

    assert desk.works("list").splitlines() == [
        ".git/",
        "zoo/",
        "a.txt  (0 bytes)",
        "b.txt  (1,234 bytes)",
        "link  (symlink)",
        "pipe  (not a regular file)",
    ]
    assert desk.works("list", path="zoo") == "inner.txt  (0 bytes)"


def test_an_empty_folder_says_so(desk):
    assert desk.works("list") == "(. is empty)"


def test_names_above_the_limit_are_left_out_with_a_note(tmp_path):
    desk = Desk(tmp_path, list={"entry_limit": 2})
    for number in range(5):
        desk.put(str(number))

    assert desk.works("list").splitlines()[-1] == "[3 more are not shown; use glob to look for names]"


def test_a_file_is_refused(desk):
    desk.put("a.txt")

    assert "a.txt is, or goes through, something that is not a folder" in desk.fails("list", path="a.txt")


def test_a_folder_that_is_not_there_is_answered_with_similar_names(desk):
    desk.put("source/a.txt")

    assert desk.fails("list", path="sorce") == "sorce does not exist. Did you mean source?"
