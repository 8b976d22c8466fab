import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode.cli.printable import fitted, one_line, printable

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b31m", "\ufffd31m"),
        ("over\rwritten", "over\nwritten"),
        ("dos\r\n", "dos\n"),
        ("\x7f\x08", "␡␈"),
        ("if admin\u202e \u2066// no", "if admin\ufffd \ufffd// no"),
        ("half \ud83d", "half \ufffd"),
        ("ünïcödé ☃ 日本", "ünïcödé ☃ 日本"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text, expected):
    assert printable(text) == expected


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text):
    for character in printable(text):
        assert character in "\n\t" or (ord(character) >= 0x20 and not 0x7F <= ord(character) < 0xA0)


@given(st.text(), st.integers(min_value=1, max_value=80))
def test_one_line_is_one_and_no_wider(text, width):
    line = one_line(text, width)

    assert len(line) <= width
    assert "\n" not in line
    assert "\t" not in line


def test_what_is_cut_says_so():
    assert fitted("abcdef", 4) == "abc…"
    assert fitted("abcd", 4) == "abcd"
