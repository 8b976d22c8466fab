"""The tool `edit`."""

import stat

import pytest

from opencode.tool.port import FileChange
from tests.tool.desk import Background, Desk

BOM = b"\xef\xbb\xbf"


def edited(desk, before, old, new, **more):
    """The file's bytes after an edit, which must work."""
    file = desk.put("a.txt", before)
    desk.works("edit", path="a.txt", old_string=old, new_string=new, **more)
    return file.read_bytes()


def test_one_place_is_replaced_and_shown(desk):
    desk.put("a.py", "import os\n\n\ndef f():\n    return 1\n\n\ndef g():\n    return 2\n").chmod(0o755)

    content = desk.works("edit", path="a.py", old_string="return 1\n", new_string="x = 1\n    return x\n")

    after = b"import os\n\n\ndef f():\n    x = 1\n    return x\n\n\ndef g():\n    return 2\n"
    assert content == (
        "Edited a.py: 1 replacement.\n@@ line 5 @@\n \n def f():\n-    return 1\n+    x = 1\n+    return x"
    )
    assert (desk.directory / "a.py").read_bytes() == after
    assert stat.S_IMODE((desk.directory / "a.py").stat().st_mode) == 0o755
    assert desk.changes == [FileChange("a.py", after.replace(b"x = 1\n    return x", b"return 1"), after)]


@pytest.mark.parametrize(
    ("before", "old", "new", "snippet"),
    [
        ("a\nb\nc\n", "b\n", "", "@@ line 2 @@\n a\n-b\n c"),
        ("a\nb\nc\n", "a\n", "", "@@ line 1 @@\n-a\n b\n c"),
        ("a\nb\nc", "c", "d\ne", "@@ line 3 @@\n a\n b\n-c\n+d\n+e"),
        ("a\nb\nc\n", "a\nb\nc\n", "x\n", "@@ line 1 @@\n-a\n-b\n-c\n+x"),
        ("one two\n", "two", "2", "@@ line 1 @@\n-one two\n+one 2"),
        ("a\nb\n", "a\n", "a\nnew\n", "@@ line 2 @@\n a\n+new\n b"),
        ("a", "a", "b", "@@ line 1 @@\n-a\n+b"),
    ],
)
def test_the_snippet_shows_whole_lines(desk, before, old, new, snippet):
    desk.put("a.txt", before)

    content = desk.works("edit", path="a.txt", old_string=old, new_string=new)

    assert content == f"Edited a.txt: 1 replacement.\n{snippet}"


def test_a_large_change_is_shown_in_part(desk):
    desk.put("a.txt", "old\n")

    content = desk.works("edit", path="a.txt", old_string="old", new_string="x" * 9000 + "\nnew" * 1000)

    assert "+[981 more lines]" in content
    assert len(content) < 1000


def test_text_that_is_not_there_is_refused(desk):
    file = desk.put("a.txt", "one\n")

    message = desk.fails("edit", path="a.txt", old_string="two", new_string="three")

    assert message == "`old_string` does not occur in a.txt. Read the file again and copy the text exactly."
    assert file.read_text() == "one\n"
    assert desk.changes == []


@pytest.mark.parametrize(
    ("old", "hint"),
    [
        ("  if x:\n    y()", "other white space stands at line 2"),
        ("if x: \n", "other white space stands at line 2"),
        ("     2\tif x:\n     3\t    y()", "Leave out the line numbers"),
    ],
)
def test_a_near_miss_gets_a_hint(desk, old, hint):
    desk.put("a.py", "start\n\tif x:\n\t    y()\nend\n")

    assert hint in desk.fails("edit", path="a.py", old_string=old, new_string="z")


def test_a_change_made_already_is_said(desk):
    desk.put("a.py", "x = 2\n")

    assert "made already" in desk.fails("edit", path="a.py", old_string="x = 1", new_string="x = 2")


def test_text_that_occurs_more_than_once_is_refused_with_its_lines(desk):
    file = desk.put("a.txt", "x\ny\nx\nx x\n")

    message = desk.fails("edit", path="a.txt", old_string="x", new_string="z")

    assert "occurs 4 times in a.txt (lines 1, 3, 4, 4)" in message
    assert "replace_all" in message
    assert file.read_text() == "x\ny\nx\nx x\n"


def test_all_places_are_replaced_when_asked(desk):
    assert edited(desk, "x\ny\nx x\n", "x", "zz", replace_all=True) == b"zz\ny\nzz zz\n"
    assert "3 replacements" in desk.works("edit", path="a.txt", old_string="zz", new_string="x", replace_all=True)


def test_an_empty_or_equal_text_is_refused(desk):
    desk.put("a.txt", "one\n")

    assert "`old_string` is empty" in desk.fails("edit", path="a.txt", old_string="", new_string="x")
    assert "nothing to change" in desk.fails("edit", path="a.txt", old_string="one", new_string="one")


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"a\r\nb\r\nc\r\n", "a\nb", "x\ny", b"x\r\ny\r\nc\r\n"),
        (b"a\r\nb\r\nc\r\n", "a\r\nb", "x\r\ny", b"x\r\ny\r\nc\r\n"),
        (b"a\r\nb\r\n", "b", "x\ny", b"a\r\nx\r\ny\r\n"),
        (b"a\r\nb\r\nc\n", "a\nb", "x\ny", b"x\r\ny\r\nc\n"),
        (b"a\r\nb\nc\n", "b\nc", "x\ny", b"a\r\nx\ny\n"),
        (b"a\nb\n", "a\nb", "x\ny", b"x\ny\n"),
        (b"a\rb\r", "a", "x", b"x\rb\r"),
    ],
)
def test_line_endings_are_kept(desk, before, old, new, after):
    assert edited(desk, before, old, new) == after


def test_a_byte_order_mark_is_kept(desk):
    assert edited(desk, BOM + b"a\n", "a", "b") == BOM + b"b\n"


def test_a_file_that_is_not_utf8_is_refused_by_name(desk):
    file = desk.put("latin.txt", b"caf\xe9 one\n")

    assert "latin.txt is not UTF-8 (byte 3)" in desk.fails("edit", path="latin.txt", old_string="one", new_string="x")
    assert file.read_bytes() == b"caf\xe9 one\n"


def test_a_file_that_is_not_there_is_answered_with_similar_names(desk):
    desk.put("settings.py")

    message = desk.fails("edit", path="setings.py", old_string="a", new_string="b")

    assert message == "setings.py does not exist. Did you mean settings.py?"
    assert desk.names() == {"settings.py"}


def test_a_file_over_the_limit_is_refused_before_and_after(tmp_path):
    desk = Desk(tmp_path, edit={"size_limit": 100})
    desk.put("big.txt", "x" * 101)
    desk.put("a.txt", "x" * 90)
    desk.put("é.txt", "x" * 90)

    assert "big.txt has 101 bytes" in desk.fails("edit", path="big.txt", old_string="x", new_string="y")
    grow = {"old_string": "x", "new_string": "y" * 1_000_000, "replace_all": True}
    assert "would grow over the limit of 100" in desk.fails("edit", path="a.txt", **grow)
    # As many characters as may be, but more bytes
    grow = {"old_string": "x", "new_string": "é", "replace_all": True}
    assert "would grow over the limit of 100" in desk.fails("edit", path="é.txt", **grow)
    assert (tmp_path / "a.txt").read_text() == "x" * 90


def test_edits_at_once_never_lose_one_that_was_reported_done(desk):
    names = [f"<{number}>" for number in range(12)]

    for _ in range(25):  # what is lost is lost rarely
        file = desk.put("a.txt", "".join(names))
        calls = [
            Background(lambda name=name: desk.call("edit", path="a.txt", old_string=name, new_string=f"{name}!"))
            for name in names
        ]
        done = [name for name, call in zip(names, calls, strict=True) if not call.join().is_error]

        assert [name for name in names if f"{name}!" in file.read_text()] == done
        assert desk.names() == {"a.txt"}
