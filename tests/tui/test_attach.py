"""`opencode attach`, driven by Textual's pilot against a real server."""

import asyncio
import json
import secrets

import pytest

from tests.live.client import Client
from tests.live.server import Server
from tests.tui.terminal import Terminals

pytestmark = pytest.mark.live


@pytest.fixture
def client(guide_server):
    return Client(guide_server)


def state(client, terminals):
    return client.call("GET", f"/tui/state?tui={terminals.name}").json


def test_what_is_typed_is_on_the_server_and_on_the_screen(terminals, client):
    async def story(terminal):
        await terminal.type("hello wörld")
        await terminal.shows("hello wörld")
        await terminal.pilot.press("left", "backspace", "home", "X", "alt+enter", "ctrl+e", "!")
        await terminal.shows("hello wörd!")
        assert state(client, terminals)["prompt"] == "X\nhello wörd!"
        await terminal.pilot.press("ctrl+c")
        await terminal.shows("ask for something")

    terminals.play(story)


def test_a_fast_typist_is_not_misspelt(terminals, client):
    text = "the quick brown fox jumps over the lazy dog, 0123456789 times"

    async def story(terminal):
        for char in text:
            terminal.app._keyboard.type(char)
        await terminal.shows(text)

    terminals.play(story)
    assert state(client, terminals)["prompt"] == text


def test_a_turn_is_shown_with_its_answer_its_tool_folded_and_its_tokens(terminals):
    async def story(terminal):
        await terminal.say("run printf 'out%sput\\n' -")
        await terminal.until(lambda: terminal.app.figures.tokens_out > 0, "the turn to end")
        await terminal.shows("✓ bash", "1 line", "tokens in", "demo/guide")
        await terminal.shows_no("out-put\n")
        await terminal.pilot.press("ctrl+o")
        await terminal.shows("▾ ✓ bash", "  out-put")
        await terminal.pilot.press("ctrl+o")
        await terminal.shows("▸ ✓ bash")

    terminals.play(story)


def test_output_of_a_running_command_is_seen_as_it_comes(terminals, guide_server):
    mark = secrets.token_hex(4)

    async def story(terminal):
        await terminal.say(f"run echo li''ve; while [ ! -e {mark} ]; do sleep 0.1; done; echo over")
        await terminal.shows("running", "  live")
        (guide_server.work / mark).touch()
        await terminal.shows("✓ bash", "2 lines")

    terminals.play(story)


def test_escape_aborts_the_turn(terminals):
    async def story(terminal):
        await terminal.say("run sleep 300")
        await terminal.shows("● bash sleep 300", "esc aborts")
        await terminal.pilot.press("escape")
        await terminal.shows("aborted")
        await terminal.until(lambda: terminal.app.figures.status == "idle")

    terminals.play(story)


def asking(client, terminals):
    """The screen with a session whose commands are asked about."""
    return selected(client, terminals, permission={"bash": "ask"})


def selected(client, terminals, **body):
    """The screen with a new session."""
    session_id = client.session(**body)
    body = {"type": "command", "command": "session.select", "session_id": session_id}
    assert client.call("POST", f"/tui/input?tui={terminals.name}", body).status == 200
    return session_id


@pytest.mark.parametrize(("key", "outcome"), [("y", "✓ bash"), ("n", "✗ bash")])
def test_a_permission_is_asked_for_and_answered_by_key_on_every_terminal(terminals, client, key, outcome):
    session_id = asking(client, terminals)

    async def story(first, second):
        await first.say("run echo [red]x[/red]")
        for terminal in (first, second):
            await terminal.shows(
                "bash wants to run this", "echo [red]x[/red]", "waits for your answer", "waits for you"
            )
        await second.pilot.press(key)
        for terminal in (first, second):
            await terminal.shows_no("wants to run this")
            await terminal.shows(outcome)

    terminals.play_two(story)
    assert client.get(session_id)["status"] == "idle"


def test_who_attaches_late_finds_the_question(terminals, client):
    session_id = asking(client, terminals)
    client.call("POST", f"/api/session/{session_id}/message", {"content": "run echo hi"}, {"Prefer": "respond-async"})

    async def story(terminal):
        await terminal.shows("bash wants to run this", "echo hi", "waits for your answer")
        await terminal.pilot.press("y")
        await terminal.shows("✓ bash")

    terminals.play(story)


def test_two_terminals_at_one_screen_show_the_same(terminals):
    async def story(first, second):
        await first.type("from the first")
        await second.shows("from the first")
        await second.pilot.press("ctrl+u")
        await second.say("help")
        await first.until(lambda: first.app.figures.tokens_out > 0)
        await second.until(lambda: second.app.figures.tokens_out > 0)
        assert first.app.session_id == second.app.session_id
        await second.until(lambda: first.screen() == second.screen())

    terminals.play_two(story)


def test_a_turn_of_another_client_is_shown_too(terminals, client):
    session_id = selected(client, terminals)

    async def story(terminal):
        await terminal.until(lambda: terminal.app.session_id == session_id)
        await asyncio.to_thread(client.turn, session_id, "a request from elsewhere")
        await terminal.shows("a request from elsewhere")
        await terminal.until(lambda: terminal.app.figures.tokens_out > 0)

    terminals.play(story)


def test_hostile_text_stays_text(terminals, client, guide_server):
    hostile = "[bold red]m[/] \x1b]0;title\x07\x1b[2J\x1b[31mred\x07\u202eback"
    (guide_server.work / "hostile.txt").write_text(hostile)
    session_id = client.session(title=hostile)
    client.turn(session_id, "run cat hostile.txt; echo '[/nonsense]'")

    async def story(terminal):
        await terminal.pilot.press("ctrl+o")
        await terminal.shows("[bold red]m[/] red\ufffd\ufffdback", "[/nonsense]")
        assert not [char for char in "\x1b\x07\u202e\x9b" if char in terminal.screen()]

    terminals.play(story, session_id=session_id)


def test_a_session_is_chosen_from_the_list(terminals, client):
    title = f"chosen {secrets.token_hex(4)}"
    session_id = client.session(title=title)

    async def story(terminal):
        await terminal.pilot.press("ctrl+l")
        await terminal.shows("Sessions", title)
        await terminal.pilot.press("escape")
        await terminal.shows_no(title)
        await terminal.pilot.press("ctrl+l")
        await terminal.shows(title)
        await terminal.pilot.press("enter")
        await terminal.until(lambda: terminal.app.session_id == session_id)

    terminals.play(story)
    assert state(client, terminals)["session_id"] == session_id


def test_a_model_is_chosen_from_the_list(terminals, client):
    session_id = selected(client, terminals)

    async def story(terminal):
        await terminal.until(lambda: terminal.app.session_id == session_id)
        await terminal.pilot.press("ctrl+t")
        await terminal.shows("Models", "ANTHROPIC_API_KEY")
        await terminal.pilot.press("end", "enter")
        await terminal.until(lambda: client.get(session_id)["model"] is not None)
        model = client.get(session_id)["resolved_model"]
        await terminal.until(lambda: terminal.app.figures.model == model)

    terminals.play(story)


def test_an_answer_that_broke_off_is_taken_off_the_screen(tmp_path):
    script = tmp_path / "script.json"
    entries = [
        {"reasoning": "half a thought"},
        {"text": "half an answer"},
        {"error": {"code": "PROVIDER_UNAVAILABLE", "retryable": True, "retry_after_s": 0.0}},
        {"text": "the **whole** answer"},
        {"usage": {"input": 12345, "output": 3, "cached": 12000}},
    ]
    script.write_text(json.dumps({"turns": [entries]}))
    options = {"OPENCODE_SCRIPT": script, "OPENCODE_MODEL": "scripted/script", "OPENCODE_RATE_LIMIT": "off"}
    with Server.serve(tmp_path / "server", **options) as server:

        async def story(terminal):
            await terminal.pilot.press("ctrl+n")
            await terminal.until(lambda: terminal.app.figures.model, "the session to be followed")
            await terminal.say("go")
            await terminal.until(lambda: terminal.app.figures.tokens_out > 0)
            await terminal.shows("the whole answer", "12.3k tokens in (12.0k cached) · 3 out", "asked again")
            # What is left is the second attempt's, which plays the script anew.
            assert terminal.screen().count("half an answer") == 1
            assert terminal.screen().count("half a thought") == 1

        Terminals(server, "default").play(story)


def test_what_is_refused_is_said(terminals, client):
    async def story(terminal):
        terminal.app._keyboard.command("session.select", session_id="ses_missing")
        await terminal.is_told("Session not found")

    terminals.play(story)


def test_limits_let_people_type(tmp_path):
    with Server.serve(tmp_path, OPENCODE_RATE_LIMIT_MAX_REQUESTS="20") as server:

        async def story(terminal):
            for word in ("the", "quick", "brown", "fox", "jumps", "over"):
                await terminal.type(f"{word} ")
                await terminal.shows(word)
            await terminal.pilot.press("ctrl+u")
            await terminal.say("run echo ty''ped")
            await terminal.until(lambda: terminal.app.figures.tokens_out > 0, "the turn to end")
            await terminal.shows("✓ bash")
            assert terminal.app.last_notice == ""

        Terminals(server, "default").play(story)


def test_where_requests_are_used_up_a_session_is_shown_as_soon_as_there_are_again(tmp_path):
    with Server.serve(tmp_path, OPENCODE_RATE_LIMIT_WINDOW_MS="5000") as server:
        client = Client(server)
        session_id = client.session()
        client.turn(session_id, "a word to look for")

        async def story(terminal):
            while client.call("GET", "/api/models").status == 200:
                pass
            terminal.app._keyboard.command("session.select", session_id=session_id)
            await terminal.is_told("OPENCODE_RATE_LIMIT_MAX_REQUESTS")
            await terminal.shows("a word to look for")

        Terminals(server, "default").play(story)


def test_a_deleted_session_leaves_the_screen(terminals, client):
    session_id = selected(client, terminals)
    client.turn(session_id, "a word to look for")

    async def story(terminal):
        await terminal.shows("a word to look for")
        await asyncio.to_thread(client.call, "DELETE", f"/api/session/{session_id}")
        await terminal.shows_no("a word to look for")
        await terminal.shows("it begins a session")

    terminals.play(story)


def test_a_lost_server_is_said_and_what_was_missed_is_replayed(tmp_path):
    with Server.serve(tmp_path, OPENCODE_RATE_LIMIT="off") as server:
        terminals = Terminals(server, "default")

        async def story(terminal):
            await terminal.say("run echo o''ne; while [ ! -e go ]; do sleep 0.1; done")
            await terminal.shows("  one")
            session_id = terminal.app.session_id
            await asyncio.to_thread(server.kill)
            await terminal.shows("○ offline since", "trying again")
            await terminal.type("x")
            await terminal.is_told("Not sent")
            (server.work / "go").touch()
            server.start()
            await asyncio.to_thread(server.ready)
            await terminal.shows("● live at", "replayed")
            await terminal.until(lambda: terminal.app.figures.status == "idle", "the turn to end")
            # And the screen is what it was.
            await terminal.until(lambda: Client(server).call("GET", "/tui/state").json["session_id"] == session_id)
            shown, stored = terminal.screen(), Client(server).get(session_id)["messages"]
            # What was on the screen before is not doubled.
            for once in ("█ run echo", "bash echo", stored[-1]["content"].strip().splitlines()[-1][:40]):
                assert shown.count(once) == 1, once
            assert stored[-1]["status"] == "completed"

        terminals.play(story)


def test_a_token_that_is_not_known_any_more_ends_it_with_the_reason(tmp_path):
    with Server.serve(tmp_path, "--auth", OPENCODE_AUTH_TOKENS="first-1", token="first-1") as server:
        terminals = Terminals(server, "default", token="first-1")

        async def story(terminal):
            await terminal.type("hello")
            await terminal.shows("hello")
            await asyncio.to_thread(server.kill)
            server.environment["OPENCODE_AUTH_TOKENS"] = "second-2"
            server.start()
            await asyncio.to_thread(server.ready)
            await terminal.until(lambda: terminal.app.return_code == 1, "the end")
            assert "Unknown token" in terminal.app.return_value

        terminals.play(story)
