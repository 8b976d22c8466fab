"""The tool `read`."""

import resource

import pytest

from opencode.errors import Cancelled
from tests.tool.desk import Background, Desk


def test_lines_are_numbered(desk):
    desk.put("a.txt", "one\n\n  three")

    assert desk.works("read", path="a.txt") == "     1\tone\n     2\t\n     3\t  three\n"


def test_a_part_is_read_and_the_way_on_is_told(desk):
    desk.put("a.txt", "".join(f"line {number}\n" for number in range(1, 11)))

    content = desk.works("read", path="a.txt", offset=3, limit=2)

    assert content == "     3\tline 3\n     4\tline 4\n[the file goes on: read it with offset=5]"


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_part_does_not_promise_more(desk, end):
    desk.put("a.txt", f"one\ntwo\nthree{end}")

    assert desk.works("read", path="a.txt", offset=2, limit=2) == "     2\ttwo\n     3\tthree\n"
    assert desk.works("read", path="a.txt", offset=3) == "     3\tthree\n"


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("offset", [4, 5, 10**30])
def test_a_line_beyond_the_end_is_refused_with_the_number_of_lines(desk, end, offset):
    desk.put("a.txt", f"one\ntwo\nthree{end}")

    assert "a.txt has only 3 lines" in desk.fails("read", path="a.txt", offset=offset)


def test_reading_on_gives_each_line_once(tmp_path):
    desk = Desk(tmp_path, read={"line_limit": 7, "output_limit": 100})
    lines = [f"{'x' * (number % 23)}{number}" for number in range(1, 101)]
    desk.put("a.txt", "\n".join(lines))

    seen, offset = [], 1
    while offset:
        *shown, note = f"{desk.works('read', path='a.txt', offset=offset)}\n".split("\n")[:-1]
        offset = int(note.rpartition("=")[2][:-1]) if note.startswith("[the file goes on") else 0
        seen += [line.partition("\t")[2] for line in shown if line]

    assert seen == lines


def test_a_file_larger_than_the_result_is_read_in_parts(tmp_path):
    desk = Desk(tmp_path, read={"output_limit": 50})
    desk.put("a.txt", "0123456789\n" * 10)

    content = desk.works("read", path="a.txt")

    assert content.endswith("[the file goes on: read it with offset=3]")
    assert content.count("0123456789") == 2


def test_a_long_line_is_cut_with_a_note(tmp_path):
    desk = Desk(tmp_path, read={"line_chars": 10})
    desk.put("a.txt", f"{'é' * 10}\n{'é' * 11}\n{'x' * 100_000}\nend\n")

    lines = desk.works("read", path="a.txt").splitlines()

    assert lines[0] == f"     1\t{'é' * 10}"
    assert lines[1] == f"     2\t{'é' * 10} [line cut; it has 22 bytes]"
    assert lines[2] == f"     3\t{'x' * 10} [line cut; it has 100,000 bytes]"
    assert lines[3] == "     4\tend"


def test_only_line_feeds_end_lines_and_carriage_returns_are_not_shown(desk):
    desk.put("a.txt", "\N{ZERO WIDTH NO-BREAK SPACE}one\r\ntwo\N{LINE SEPARATOR}still two\r\n\x0cthree\rstill")

    assert desk.works("read", path="a.txt") == (
        "     1\tone\n     2\ttwo\N{LINE SEPARATOR}still two\n     3\t\x0cthree\rstill\n"
    )


def test_an_empty_file_says_so(desk):
    desk.put("a.txt")

    assert desk.works("read", path="a.txt") == "(a.txt is empty)"


def test_a_binary_file_is_refused_by_name(desk):
    desk.put("image.png", b"\x89PNG\r\n\x1a\n\0\0\0")

    assert desk.fails("read", path="image.png").startswith("image.png is a binary file")


def test_a_file_that_is_not_there_is_answered_with_similar_names(desk):
    desk.put("src/settings.py")
    desk.put("src/README.md")

    assert desk.fails("read", path="src/setings.py") == "src/setings.py does not exist. Did you mean src/settings.py?"
    assert desk.fails("read", path="src/readme.md").endswith("Did you mean src/README.md?")
    assert desk.fails("read", path="src/zzz") == "src/zzz does not exist."
    assert desk.fails("read", path="nowhere/zzz") == "nowhere/zzz does not exist."


@pytest.mark.parametrize(("field", "value"), [("offset", 0), ("offset", -1), ("limit", 0), ("offset", "x")])
def test_a_number_that_is_none_is_refused(desk, field, value):
    desk.put("a.txt", "one\n")

    assert f"`{field}` should be" in desk.fails("read", path="a.txt", **{field: value})


def test_a_huge_file_is_not_loaded_into_memory(desk):
    # Given 300 MB in one line, without using the disk, and a line after it
    file = desk.put("huge.log", "first\n" + "x" * 9000)
    with file.open("r+b") as stream:
        stream.truncate(300_000_000)
        stream.seek(0, 2)
        stream.write(b"\nlast\n")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    # When
    assert desk.works("read", path="huge.log", limit=1).startswith("     1\tfirst\n")
    assert desk.works("read", path="huge.log", offset=3) == "     3\tlast\n"
    assert "[line cut; it has 299,999,994 bytes]" in desk.works("read", path="huge.log", offset=2)

    # Then
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_an_abort_ends_a_long_read(desk):
    # Given a file whose reading takes longer than the test waits, were it read whole
    file = desk.put("huge.log", "x" * 9000)
    with file.open("r+b") as stream:
        stream.truncate(1_000_000_000_000)
    call = Background(lambda: desk.call("read", path="huge.log", offset=2))

    # When
    desk.cancel.cancel("aborted")
    call.join(10)

    # Then
    assert isinstance(call.error, Cancelled)
