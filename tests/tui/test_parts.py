"""The parts of the terminal interface that need neither a server nor a terminal."""

import asyncio

import pytest

from opencode.tui.connection import Link, checked_url
from opencode.tui.keyboard import Keyboard
from opencode.tui.lines import link_line, question
from opencode.tui.plain import count, plain, shortened


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain é 字 🎈\n\ttab", "plain é 字 🎈\n\ttab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b", "a\ufffd"),
        ("\x9b31mx", "\ufffd31mx"),
        ("10%\r20%\r\nend", "10%\n20%\nend"),
        ("a\x00\x07b", "a\ufffd\ufffdb"),
        ("x\u202egpj.exe", "x\ufffdgpj.exe"),
    ],
)
def test_terminal_sequences_go_and_other_control_characters_are_seen(given, shown):
    assert plain(given) == shown


def test_long_text_is_one_short_line():
    assert shortened("a\nb   c", 10) == "a b c"
    assert shortened("x" * 11, 10) == "x" * 9 + "…"


def test_tokens_are_counted_as_people_read_them():
    assert [count(number) for number in (0, 9_999, 12_345)] == ["0", "9999", "12.3k"]


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://agent.example.com/", "https://agent.example.com"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses_of_servers(url, checked):
    assert checked_url(url) == checked


@pytest.mark.parametrize(
    "url", ["", "localhost:3000", "ftp://x", "http://", "http://x:99999", "http://x:y", "http://[::1", "http:///x"]
)
def test_what_is_no_address_is_refused_with_the_form(url):
    with pytest.raises(ValueError, match="http://localhost:3000"):
        checked_url(url)


@pytest.mark.parametrize("url", ["http://token@host", "http://a:b@host", "http://host/?token=x", "http://host/#x"])
def test_a_token_in_an_address_is_refused(url):
    with pytest.raises(ValueError, match="OPENCODE_TOKEN"):
        checked_url(url)


def sent(*steps, merges=True):
    """What the server gets when all of this waits at once."""
    found = []

    async def story():
        done = asyncio.Event()

        async def send(one):
            found.append(one)
            if one == {"type": "keypress", "key": "f1"}:
                done.set()
            if len(found) == 1:
                for method, argument in steps:
                    method(keyboard, argument)

        keyboard = Keyboard(send, lambda: merges)
        keyboard.press("left")
        running = asyncio.create_task(keyboard.run())
        keyboard.press("f1")
        await asyncio.wait_for(done.wait(), 30)
        done.clear()
        keyboard.press("f1")
        await asyncio.wait_for(done.wait(), 30)
        running.cancel()

    asyncio.run(story())
    return found[2:-1]


def test_what_waits_is_sent_together_and_in_order():
    steps = [(Keyboard.type, "a"), (Keyboard.type, "b"), (Keyboard.press, "enter"), (Keyboard.type, "c")]
    assert sent(*steps) == [
        {"type": "text", "text": "ab"},
        {"type": "keypress", "key": "enter"},
        {"type": "keypress", "key": "c"},
    ]


def test_an_answer_to_a_question_is_not_merged_with_what_is_typed_after_it():
    assert sent((Keyboard.type, "y"), (Keyboard.type, "n"), merges=False) == [
        {"type": "keypress", "key": "y"},
        {"type": "keypress", "key": "n"},
    ]


def test_a_long_paste_goes_in_pieces_that_the_server_takes():
    pieces = sent((Keyboard.type, "x" * 250_000), (Keyboard.type, "y"))
    assert [len(piece["text"]) for piece in pieces] == [100_000, 100_000, 50_001]


def test_the_connection_is_said_to_be_as_the_worst_of_its_streams():
    live, offline = Link("live"), Link("offline", since=1.0)
    assert "live at http://x" in link_line([live, live], "http://x").plain
    assert "offline since" in link_line([live, offline], "http://x").plain
    assert "connecting" in link_line([live, Link("connecting")], "http://x").plain
    assert "3 missed events replayed" in link_line([Link("live", since=1.0, replayed=3)], "http://x").plain
    assert "replayed" not in link_line([Link("live", replayed=3)], "http://x").plain


def test_a_question_shows_all_that_is_asked_for():
    command = "echo " + "x" * 5000 + "; rm -rf /"
    assert command in question({"tool": "bash", "params": {"command": command}}).plain
    shown = question({"tool": "write", "params": {"path": "a.txt", "content": "[red]\x1b[31mx"}}).plain
    assert "path: a.txt" in shown
    assert "content: [red]x" in shown
