"""The tool `grep`, over the real program."""

import time

import pytest

from opencode.errors import Cancelled
from tests.tool.desk import Background, Desk


def test_matches_come_with_path_and_line(desk):
    desk.put("b.py", "x = 1\r\ny = x\r\n")
    desk.put("src/a.py", "x\n")
    desk.put("c.txt", "none\n")

    assert desk.works("grep", pattern=r"x$") == "b.py:2: y = x\nsrc/a.py:1: x"


def test_a_path_narrows_the_search_and_results_stay_relative_to_the_directory(desk):
    desk.put("a.txt", "apple\n")
    desk.put("src/deep/b.txt", "apple\n")

    assert desk.works("grep", pattern="apple", path="src") == "src/deep/b.txt:1: apple"
    assert desk.works("grep", pattern="apple", path="src/deep/b.txt") == "src/deep/b.txt:1: apple"
    assert desk.works("grep", pattern="apple", path="a.txt") == "a.txt:1: apple"


@pytest.mark.parametrize(
    ("include", "found"),
    [
        ("*.py", ["a.py", "src/b.py"]),
        ("*.{py,ts}", ["a.py", "src/b.py", "src/c.ts"]),
        ("src/**/*.ts", ["src/c.ts"]),
        ("!*.py", ["src/c.ts"]),
        ("*.rs", []),
    ],
)
def test_include_chooses_files_by_name(desk, include, found):
    for name in ("a.py", "src/b.py", "src/c.ts"):
        desk.put(name, "apple\n")

    content = desk.works("grep", pattern="apple", include=include)

    assert content == ("\n".join(f"{name}:1: apple" for name in found) or "No match for apple")


@pytest.mark.parametrize("include", [None, "*.txt"])
def test_ignored_files_and_git_are_left_out_and_hidden_ones_are_not(desk, include):
    desk.put(".gitignore", "build/\n*.log.txt\n")
    for name in ("build/a.txt", "b.log.txt", ".git/config.txt", "sub/.git/x.txt", ".github/ci.txt"):
        desk.put(name, "apple\n")

    assert desk.works("grep", pattern="apple", include=include) == ".github/ci.txt:1: apple"


def test_no_match_says_so(desk):
    desk.put("a.txt", "one\n")

    assert desk.works("grep", pattern="two") == "No match for two"


def test_a_bad_pattern_is_refused_with_the_programs_words(desk):
    message = desk.fails("grep", pattern="f(")

    assert message.startswith("regex parse error")
    assert "unclosed group" in message


@pytest.mark.parametrize("include", ["[", "a/["])
def test_a_bad_include_is_refused(desk, include):
    assert "unclosed character class" in desk.fails("grep", pattern="x", include=include)


@pytest.mark.parametrize("text", ["--files", "-e", "-v", "--pre=sh", "--"])
def test_nothing_is_taken_for_an_option(desk, text):
    desk.put(f"{text}/{text}", f"a {text} b\n")
    desk.put(text + ".txt", "other\n")

    assert desk.works("grep", pattern=text, path=text, include=text) == f"{text}/{text}:1: a {text} b"
    assert desk.works("grep", pattern=text, path=f"{text}/{text}") == f"{text}/{text}:1: a {text} b"


def test_settings_of_the_host_do_not_count(desk, monkeypatch, tmp_path):
    (tmp_path / "ripgreprc").write_text("--invert-match\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(tmp_path / "ripgreprc"))
    desk.put("a.txt", "apple\npear\n")

    assert desk.works("grep", pattern="apple") == "a.txt:1: apple"


def test_matches_above_the_limit_are_left_out_with_a_note(tmp_path):
    desk = Desk(tmp_path, grep={"match_limit": 3})
    desk.put("a.txt", "apple\n" * 3)
    assert desk.works("grep", pattern="apple").count("\n") == 2

    desk.put("b.txt", "apple\n" * 100_000)
    *lines, note = desk.works("grep", pattern="apple").splitlines()

    assert lines == ["a.txt:1: apple", "a.txt:2: apple", "a.txt:3: apple"]
    assert note.startswith("[more match than the 3 shown")


def test_a_long_line_is_cut(tmp_path):
    desk = Desk(tmp_path, grep={"line_chars": 50})
    desk.put("a.js", f"{'x' * 1_000_000}apple\n")

    content = desk.works("grep", pattern="apple")

    assert content.startswith(f"a.js:1: {'x' * 50} [")
    assert len(content) < 150


def test_binary_files_are_left_out(desk):
    desk.put("a.bin", b"\0\1\2 apple\n")
    desk.put("b.txt", "apple\n")

    assert desk.works("grep", pattern="apple") == "b.txt:1: apple"


def test_a_pattern_that_ruins_other_engines_is_no_trouble(desk):
    desk.put("a.txt", f"{'a' * 5000}b\n")

    assert "No match" in desk.works("grep", pattern="(a+)+$")
    assert "size limit" in desk.fails("grep", pattern="(a{10000}){10000}")


def slow_program(tmp_path, printing=""):
    """Stands in for a search that takes too long, which a real one would need a huge tree for."""
    program = tmp_path / "slow-rg"
    program.write_text(f"#!/bin/sh\n{printing}\nexec sleep 300\n")
    program.chmod(0o755)
    return str(program)


def test_a_search_that_takes_too_long_is_stopped(tmp_path):
    desk = Desk(tmp_path / "work", grep={"ripgrep": slow_program(tmp_path), "timeout_s": 0.3})
    desk.put("a.txt")

    assert "took longer than 0.3 s" in desk.fails("grep", pattern="x")


def test_what_a_stopped_search_has_found_is_kept(tmp_path):
    program = slow_program(tmp_path, r"printf './a.txt\0001:xy\n'")
    desk = Desk(tmp_path / "work", grep={"ripgrep": program, "timeout_s": 0.5})
    desk.put("a.txt")

    assert desk.works("grep", pattern="x") == "a.txt:1: xy\n[stopped after 0.5 s; there may be more matches]"


def test_an_abort_ends_the_search(tmp_path):
    desk = Desk(tmp_path / "work", grep={"ripgrep": slow_program(tmp_path, "echo > started")})
    desk.put("a.txt")
    call = Background(lambda: desk.call("grep", pattern="x"))

    aborted_at = time.monotonic()
    desk.cancel.cancel("aborted")
    call.join()

    assert isinstance(call.error, Cancelled)
    assert time.monotonic() - aborted_at < 3


def test_a_missing_program_is_an_error_that_names_it(tmp_path):
    desk = Desk(tmp_path, grep={"ripgrep": "no-such-rg"})

    assert "no-such-rg could not be started" in desk.fails("grep", pattern="x")


def test_a_path_that_is_not_there_is_refused(desk):
    desk.put("source/a.txt")

    assert desk.fails("grep", pattern="x", path="sorce") == "sorce does not exist. Did you mean source?"
