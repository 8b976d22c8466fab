"""`opencode session` on a store without a server, and on one that a server holds."""

import json
import sys

import pytest

from opencode.client import Client
from tests.cli.inside import run_inside
from tests.cli.terminal import Terminal
from tests.live.server import Server, environment, free_port

pytestmark = pytest.mark.live

OPENCODE = (sys.executable, "-P", "-m", "opencode")
SECOND = "More\x1b[31m of it\nthan fits on a line"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def settings(home):
    script = home / "script.json"
    turns = [[{"tool": "bash", "params": {"command": "echo '```'"}}], [{"text": "It says `three`.\x1b[2J<b>"}]]
    script.write_text(json.dumps({"loop": True, "turns": turns}))
    return {"OPENCODE_SCRIPT": script, "OPENCODE_MODEL": "scripted/script", "PORT": free_port()}


def serve(home, settings):
    return Server(home, [*OPENCODE, "serve", str(home / "work")], port=settings["PORT"], **settings)


@pytest.fixture(scope="module")
def stored(home, settings):
    """Two sessions, the newer one with an awkward title; and one whose server died under a turn."""
    with serve(home, settings) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        first = client.create_session(title="The first").session_id
        client.ask(first, "say it")
        second = client.create_session(title=SECOND).session_id
        ask = {"bash": "ask"}
        third = client.create_session(title="Unfinished", permission=ask).session_id
        with client.turn(third, "do it") as turn:
            next(event for event in turn if event.name == "permission_request")
        server.kill()
    return first, second, third


@pytest.fixture
def opencode(home, settings, stored):
    def start(*words):
        return run_inside(["session", *words], environment(home, **settings), home)

    return start


def test_without_a_server_the_store_is_read_and_nothing_in_it_changes(opencode, stored):
    first, second, third = stored

    listed = opencode("list")
    again = json.loads(opencode("list", "--json").stdout)

    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [third, second, first]
    assert lines[1].endswith("More␛[31m of it than fits on a line")
    assert "\x1b" not in listed.stdout
    assert listed.stderr == ""
    # A server would go on with it. A look must not run what an agent had in mind.
    assert [own["status"] for own in again] == ["waiting", "idle", "idle"]
    assert [own["title"] for own in again] == ["Unfinished", SECOND, "The first"]


def test_the_list_can_be_short_and_searched(opencode, stored):
    assert len(opencode("list", "--limit", "1").stdout.splitlines()) == 1
    assert opencode("list", "-q", "The first").stdout.startswith(stored[0])
    nothing = opencode("list", "-q", "no such words")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "No session has that.\n")


def test_a_session_is_shown_with_its_messages(opencode, stored):
    shown = opencode("show", stored[0])

    assert shown.returncode == 0
    assert shown.stdout.startswith("The first\n")
    assert f"  session    {stored[0]}\n" in shown.stdout
    assert "\nuser · " in shown.stdout
    assert "It says `three`.␛[2J<b>" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_an_export_is_markdown_or_json_and_overwrites_nothing(opencode, stored, home):
    markdown = opencode("export", stored[0]).stdout
    to_file = opencode("export", stored[0], "-o", "talk.json")
    again = opencode("export", stored[0], "-o", "talk.json")

    assert markdown.startswith("# The first\n")
    assert "````\n```\n````" in markdown  # the command's output cannot end the fence that it is in
    assert "> It says `three`.␛[2J&lt;b>" in markdown
    assert (to_file.returncode, to_file.stdout) == (0, "")
    written = json.loads((home / "talk.json").read_text())
    assert [message["role"] for message in written["messages"]] == ["user", "assistant"]
    assert written["id"] == stored[0]
    assert written == json.loads(opencode("show", "--json", stored[0]).stdout)
    assert again.returncode == 1
    assert "talk.json cannot be written: File exists. Name a new file." in again.stderr


def test_what_is_not_there_is_said(opencode):
    done = opencode("show", "ses_missing")

    assert (done.returncode, done.stdout) == (1, "")
    assert "Session not found: ses_missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_deleting_is_asked_for_first(home, settings, stored, opencode):
    refused = opencode("delete", stored[1])
    assert refused.returncode == 2
    assert "give --yes" in refused.stderr

    with Terminal([*OPENCODE, "session", "delete", stored[1]], cwd=home, env=environment(home, **settings)) as terminal:
        terminal.shows("Delete 1 session(s) for good? [y/N]:")
        terminal.type("n\n")
        assert terminal.exit_code() == 1
    assert stored[1] in opencode("list").stdout


def test_a_running_server_is_asked(home, settings, stored, opencode):
    """It holds the store, so that nobody else can read it."""
    with serve(home, settings) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        made = client.create_session(title="Short-lived").session_id
        assert opencode("list").stdout.splitlines()[0].split()[0] == made
        deleted = opencode("delete", "--yes", made)
        gone = opencode("delete", "--yes", made)

    assert (deleted.returncode, deleted.stdout) == (0, f"deleted {made}\n")
    assert gone.returncode == 1
    assert f"Session not found: {made}" in gone.stderr
