"""The tool `glob`."""

import os
import time

import pytest

from opencode.errors import Cancelled
from tests.tool.desk import Background, Desk

FILES = ["a.py", "b.ts", "src/c.py", "src/deep/d.py", "src/deep/test_e.py", ".hidden/f.py", "src/[x].py"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", {"a.py", "src/c.py", "src/deep/d.py", "src/deep/test_e.py", ".hidden/f.py", "src/[x].py"}),
        ("./*.py", {"a.py"}),
        ("**/*.py", {"a.py", "src/c.py", "src/deep/d.py", "src/deep/test_e.py", ".hidden/f.py", "src/[x].py"}),
        ("src/*.py", {"src/c.py", "src/[x].py"}),
        ("src/**/*.py", {"src/c.py", "src/deep/d.py", "src/deep/test_e.py", "src/[x].py"}),
        ("src/**", {"src/c.py", "src/deep/d.py", "src/deep/test_e.py", "src/[x].py"}),
        ("**/deep/*", {"src/deep/d.py", "src/deep/test_e.py"}),
        ("**/src/**/deep/**/d.py", {"src/deep/d.py"}),
        ("*.{ts,rs}", {"b.ts"}),
        ("{a.py,src/{c,x}.py}", {"a.py", "src/c.py"}),
        ("?.ts", {"b.ts"}),
        ("[ab].*", {"a.py", "b.ts"}),
        ("src/[[]x].py", {"src/[x].py"}),
        ("src", set()),
        ("A.py", set()),
    ],
)
def test_a_pattern_finds_its_files(desk, pattern, found):
    for name in FILES:
        desk.put(name)

    content = desk.works("glob", pattern=pattern)

    assert set(content.splitlines()) == (found or {f"No file matches {pattern}."})


def test_the_newest_come_first(desk):
    for age, name in enumerate(["new.txt", "sub/older.txt", "oldest.txt"]):
        os.utime(desk.put(name), (10_000 - age, 10_000 - age))

    assert desk.works("glob", pattern="*.txt").splitlines() == ["new.txt", "sub/older.txt", "oldest.txt"]


def test_a_path_is_where_the_search_begins_and_results_stay_relative_to_the_directory(desk):
    desk.put("a.py")
    desk.put("src/b.py")

    assert desk.works("glob", pattern="*.py", path="src") == "src/b.py"


def test_git_is_skipped(desk):
    desk.put(".git/hooks/a.py")
    desk.put("sub/.git/a.py")
    desk.put("sub/a.py")

    assert desk.works("glob", pattern="**/a.py") == "sub/a.py"


def test_folders_behind_symlinks_are_not_entered(desk):
    desk.put("real/a.py")
    (desk.directory / "again").symlink_to("real")
    (desk.directory / "round").symlink_to(".")
    (desk.directory / "link.py").symlink_to("real/a.py")

    assert set(desk.works("glob", pattern="*.py").splitlines()) == {"link.py", "real/a.py"}


def test_files_above_the_limit_are_left_out_with_a_note(tmp_path):
    desk = Desk(tmp_path, glob={"match_limit": 3})
    for number in range(5):
        desk.put(f"{number}.txt")

    lines = desk.works("glob", pattern="*.txt").splitlines()

    assert len(lines) == 4
    assert lines[-1] == "[2 more match; use a narrower pattern]"


def test_the_search_gives_up_after_so_many_names(tmp_path):
    desk = Desk(tmp_path, glob={"visit_limit": 10})
    for number in range(30):
        desk.put(f"{number}/a.txt")

    assert desk.works("glob", pattern="*.txt").endswith("[stopped after 10 names; look in a smaller folder]")


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "src/../../*"])
def test_a_pattern_cannot_lead_out(desk, pattern):
    assert "give the folder to look in as `path`" in desk.fails("glob", pattern=pattern)


@pytest.mark.parametrize("pattern", [".", "./", "./."])
def test_a_pattern_without_a_name_is_refused(desk, pattern):
    assert "`pattern` names nothing" in desk.fails("glob", pattern=pattern)


def test_a_pattern_with_too_many_alternatives_is_refused(desk):
    assert "more than 100 alternatives" in desk.fails("glob", pattern="{a,b}" * 40)


@pytest.mark.parametrize("pattern", ["*a" * 30 + "b", "**/" * 200 + "b", "{**/,}" * 6 + "b"])
def test_no_pattern_takes_for_ever(desk, pattern):
    for number in range(20):
        desk.put("/".join(["a"] * number) + f"/{'a' * 200}".lstrip("/"))

    started_at = time.monotonic()
    assert "No file matches" in desk.works("glob", pattern=pattern)
    assert time.monotonic() - started_at < 5


def test_an_abort_ends_the_search(desk):
    for number in range(2000):
        (desk.directory / str(number)).mkdir()
    call = Background(lambda: [desk.call("glob", pattern="*.txt") for _ in range(10_000)])

    desk.cancel.cancel("aborted")
    call.join()

    assert isinstance(call.error, Cancelled)
