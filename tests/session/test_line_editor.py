"""The prompt line: `|` stands for the cursor in what these tests give and expect."""

import pytest

from opencode.errors import InvalidRequest
from opencode.session.line_editor import PROMPT_CHARS, LineEditor
from opencode.session.terminal_input import EDITING

pytestmark = pytest.mark.once

FAMILY = "👩\u200d👩\u200d👧"
THUMB = "👍\U0001f3fd"
FLAGS = "🇫🇷🇩🇪"


def editor(shown):
    """With this text, and the cursor where the bar stands."""
    own = LineEditor()
    own.insert(shown.replace("|", ""))
    own.cursor = shown.index("|")
    return own


def shown(own):
    return f"{own.text[: own.cursor]}|{own.text[own.cursor :]}"


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("ab|c", "left", "a|bc"),
        ("|abc", "left", "|abc"),
        ("ab|c", "right", "abc|"),
        ("abc|", "right", "abc|"),
        ("ab|c", "backspace", "a|c"),
        ("|abc", "backspace", "|abc"),
        ("ab|c", "delete", "ab|"),
        ("abc|", "delete", "abc|"),
        ("ab|c", "home", "|abc"),
        ("ab|c", "end", "abc|"),
        ("ab|c", "ctrl+a", "|abc"),
        ("ab|c", "ctrl+e", "abc|"),
        ("one\ntw|o\nx", "home", "one\n|two\nx"),
        ("one\nt|wo\nx", "end", "one\ntwo|\nx"),
        ("one t|wo", "ctrl+k", "one t|"),
        ("on|e\ntwo", "ctrl+k", "on|\ntwo"),
        ("on|\ntwo", "ctrl+k", "on|two"),
        ("one|", "ctrl+k", "one|"),
        ("one\ntw|o", "ctrl+u", "one\n|o"),
        ("one two  |x", "ctrl+w", "one |x"),
        ("one|", "ctrl+w", "|"),
        ("  |", "ctrl+w", "|"),
        ("a|b", "tab", "a    |b"),
        ("a|b", "shift+enter", "a\n|b"),
        ("one\ntwo|", "up", "one|\ntwo"),
        ("a\nlonger|", "up", "a|\nlonger"),
        ("on|e\nlonger", "down", "one\nlo|nger"),
        ("longer|\nb\nc", "down", "longer\nb|\nc"),
        # What is shown as one character is one step.
        ("e\u0301|", "left", "|e\u0301"),
        ("|e\u0301x", "right", "e\u0301|x"),
        (f"a{FAMILY}|", "backspace", "a|"),
        (f"|{FAMILY}b", "delete", "|b"),
        (f"{THUMB}|", "left", f"|{THUMB}"),
        (f"{FLAGS}|", "left", "🇫🇷|🇩🇪"),
        (f"|{FLAGS}", "right", "🇫🇷|🇩🇪"),
        ("각|x".replace("각", "\u1100\u1161\u11a8"), "left", "|\u1100\u1161\u11a8x"),
        ("👩\u200dx|", "left", "👩\u200d|x"),
        ("\n\u0301|", "left", "\n|\u0301"),
        ("字é🎈|", "backspace", "字é|"),
        ("ab\ne\u0301|", "up", "ab|\ne\u0301"),
        ("e\u0301b\nx|", "up", "|e\u0301b\nx"),
    ],
)
def test_keys_move_and_remove_as_in_readline(before, key, after):
    own = editor(before)

    EDITING[key](own)

    assert shown(own) == after


def test_text_goes_in_at_the_cursor():
    own = editor("a|d")
    own.insert("bc")
    assert shown(own) == "abc|d"


def test_pasted_text_keeps_its_lines_and_loses_what_could_drive_a_terminal():
    own = LineEditor()
    own.insert("a\r\nb\rc\td\x1b[31m\x00\x7f\x9bé")
    assert own.text == "a\nb\nc\td[31mé"


def test_a_prompt_that_would_be_too_long_is_left_as_it_was():
    own = editor("ab|")
    with pytest.raises(InvalidRequest, match="200000"):
        own.insert("x" * (PROMPT_CHARS - 1))
    assert shown(own) == "ab|"
    own.insert("x" * (PROMPT_CHARS - 2))


def sent(*prompts):
    own = LineEditor()
    for prompt in prompts:
        own.insert(prompt)
        own.sent()
    return own


def test_up_and_down_walk_through_what_was_sent_and_come_back_to_the_draft():
    own = sent("one", "two")
    own.insert("dra")
    seen = []
    for step in ("up", "up", "up", "down", "down", "down"):
        EDITING[step](own)
        seen.append(own.text)
    assert seen == ["two", "one", "one", "two", "dra", "dra"]


def test_what_is_changed_in_the_history_is_a_new_prompt():
    own = sent("one", "two")
    own.up()
    own.insert("!")
    own.sent()
    own.up()
    own.up()
    assert own.text == "two"


def test_the_same_prompt_twice_is_kept_once():
    own = sent("one", "two", "two")
    own.up()
    own.up()
    assert own.text == "one"


def test_the_history_is_bounded_in_number_and_in_length():
    many = sent(*map(str, range(500)))
    long = sent("a" * 150_000, "b" * 150_000)
    for own in (many, long):
        for _ in range(600):
            own.up()
    assert many.text == "400"
    assert long.text == "b" * 150_000


def test_long_runs_of_marks_and_flags_are_crossed_in_one_go():
    own = LineEditor()
    own.insert("e" + "\u0301" * 50_000 + "🇫" * 50_000)
    own.left()
    assert own.cursor == 50_001 + 50_000 - 2
    own.home()
    own.right()
    assert own.cursor == 50_001
