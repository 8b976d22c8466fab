import subprocess

import pytest

from opencode.session.diff import TOO_LARGE, unified


def test_a_change_is_shown_with_its_lines_around():
    before, after = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n"

    assert unified([("a.txt", before, after)]) == (
        "--- a/a.txt\n+++ b/a.txt\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
    )


def test_created_and_deleted_files_have_no_other_side():
    made = unified([("gone", b"x\n", None), ("new", None, b"x\n")])

    assert made == "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n"


def test_what_is_the_same_again_is_left_out():
    assert unified([("a", b"x", b"x"), ("b", None, None), ("c", b"", b"")]) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a", b"b"),
        (b"a\n", b"a"),
        (b"a", b"a\n"),
        (b"1\n2", b"1\n2\n3"),
        (b"a\r\nb\r\n", b"a\r\nB\r\n"),
        (b"a\r\nb\r\n", b"a\nb\n"),
        ("x\u2028y\x0cz\x85\n".encode(), "x\u2028Y\x0cz\x85\n".encode()),
        (b"a\rb\n", b"a\rc\n"),
        (b"", b"x"),
        (b"x\n" * 30, b"x\n" * 10 + b"y\n" + b"x\n" * 20),
    ],
    ids=["one line", "end lost", "end won", "grown", "crlf", "crlf to lf", "odd breaks", "cr", "from empty", "long"],
)
def test_git_makes_the_second_file_of_the_first_with_the_diff(tmp_path, before, after):
    (tmp_path / "f.txt").write_bytes(before)

    made = unified([("f.txt", before, after)])
    done = subprocess.run(["git", "apply", "-"], check=False, cwd=tmp_path, input=made.encode(), capture_output=True)

    assert done.returncode == 0, done.stderr.decode() + made
    assert (tmp_path / "f.txt").read_bytes() == after


@pytest.mark.parametrize(("before", "after"), [(b"a\0b", b"a\0c"), (b"text\n", b"\0"), (b"", b"\0")])
def test_binary_files_are_named_only(before, after):
    assert unified([("f.bin", before, after)]) == "Files a/f.bin and b/f.bin differ\n"


def test_a_created_binary_file_is_named_too():
    assert unified([("f.bin", None, b"\0")]) == "Files /dev/null and b/f.bin differ\n"


def test_files_too_large_to_compare_are_named_even_where_the_store_kept_neither_side():
    assert unified([("big", TOO_LARGE, TOO_LARGE)]) == "Files a/big and b/big differ\n"
    assert unified([("big", b"small\n", TOO_LARGE)]) == "Files a/big and b/big differ\n"


def test_files_with_very_many_lines_are_named_only():
    assert unified([("long", b"a\n" * 20_001, b"b\n")]) == "Files a/long and b/long differ\n"


def test_what_is_no_utf_8_is_shown_as_far_as_it_can_be():
    assert "-caf\ufffd\n+cafe\n" in unified([("latin", b"caf\xe9\n", b"cafe\n")])
