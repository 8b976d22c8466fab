"""The guided tour, on a real copy of the example and elsewhere."""

import subprocess

import pytest

from tests.provider.test_demo import ALL_TOOLS, DEFAULT_TOOLS, empty_directory, example_project, turn

# pytest finds fixtures among the names of a module.
__all__ = ["empty_directory", "example_project"]


def unittest_passes(directory):
    done = subprocess.run(["python3", "-B", "-m", "unittest"], cwd=directory, capture_output=True, check=False)
    return done.returncode == 0


def test_the_example_has_exactly_one_failing_test(example):
    done = subprocess.run(["python3", "-m", "unittest"], cwd=example, capture_output=True, text=True, check=False)
    assert "Ran 7 tests" in done.stderr
    assert done.stderr.rstrip().endswith("FAILED (failures=1)")


@pytest.mark.parametrize("tools", [ALL_TOOLS, DEFAULT_TOOLS])
def test_tour_finds_fixes_and_proves_on_disk(example, tools):
    tour = turn(example, "start", tools)

    tested = [
        result.content
        for (tool, params), result in zip(tour.calls, tour.results, strict=True)
        if "unittest" in str(params)
    ]
    assert [tool for tool, _ in tour.calls][1:] == ["bash", "read", "edit", "bash", "bash"]
    assert "FAILED (failures=1)" in tested[0]
    assert "OK" in tested[1]
    assert "return a / b" in (example / "calculator.py").read_text()
    assert unittest_passes(example)
    assert "1 of 7 tests fails: `test_divide_keeps_the_fraction` (AssertionError: 3 != 3.5)" in tour.text
    assert "Line 24 says `return a // b`" in tour.text
    assert "All 7 tests pass" in tour.text
    assert "not an AI" in tour.text
    assert tour.reasoning
    for event in ("turn_start", "step", "text", "tool_call", "tool_output", "tool_result", "done"):
        assert f"`{event}`" in tour.text


def test_tour_shows_gits_diff_where_there_is_a_repository(example):
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "example"]):
        subprocess.run(["git", *command], cwd=example, check=True)

    tour = turn(example, "start")

    assert "-    return a // b\n+    return a / b\n" in tour.results[-1].content
    assert "The diff has one line out, `return a // b`, and one in, `return a / b`." in tour.text


def test_tour_says_that_the_bug_is_fixed_already_and_how_to_break_it_again(example):
    turn(example, "start")

    again = turn(example, "start")
    assert "fixed already" in again.text
    assert "edit" not in dict(again.calls)

    typed = again.text.partition("type: ")[2]
    broken_and_fixed = turn(example, typed)
    assert [tool for tool, _ in broken_and_fixed.calls].count("edit") == 2
    assert "1 of 7 tests fails" in broken_and_fixed.text
    assert unittest_passes(example)


def test_tour_changes_nothing_when_another_bug_breaks_the_tests(example):
    module = example / "calculator.py"
    module.write_text(module.read_text().replace("a // b", "a / b").replace("return a + b", "return a - b"))
    before = module.read_text()

    tour = turn(example, "start")

    assert "fails for another reason" in tour.text
    assert module.read_text() == before


def test_tour_outside_the_example_says_what_is_here_instead(empty):
    (empty / "notes.txt").write_text("x")
    tour = turn(empty, "start the tour")
    assert "`notes.txt`" in tour.text
    assert "`make run`" in tour.text
    assert len(tour.calls) == 1


def test_tour_without_its_tools_says_which_are_missing(example):
    tour = turn(example, "start", ("read", "list"))
    assert tour.calls == []
    assert "`bash` and `edit`" in tour.text
