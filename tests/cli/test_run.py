"""`opencode run` as people use it: in a terminal, in a pipe, with a server and without."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.cli.inside import run_inside
from tests.cli.terminal import Terminal
from tests.live.client import Client
from tests.live.server import Server, environment, free_port, until

pytestmark = pytest.mark.live

OPENCODE = (sys.executable, "-P", "-m", "opencode")
LIMIT_S = 60.0
ESCAPES = "\x1b]0;owned\x07\x1b[2Jcalm"


class Command:
    """`opencode`, with a store, a script and a directory of its own; no server runs at its address."""

    def __init__(self, home, turns, **variables):
        self.home = home
        self.work = home / "work"
        self.work.mkdir(parents=True)
        self.script = home / "script.json"
        self.script.write_text(json.dumps({"loop": True, "turns": turns}))
        self.variables = {
            "OPENCODE_SCRIPT": self.script,
            "OPENCODE_MODEL": "scripted/script",
            "OPENCODE_RATE_LIMIT": "off",
            "PORT": free_port(),
            **variables,
        }

    @property
    def environment(self):
        return environment(self.home, **self.variables)

    def __call__(self, *words, piped="", **variables):
        return run_inside(words, environment(self.home, **self.variables | variables), self.work, piped)

    def process(self, *words, cwd=None, piped="", encoding="utf-8"):
        """As a program of its own."""
        return subprocess.run(
            [*OPENCODE, *words],
            cwd=cwd or self.work,
            env=self.environment,
            input=piped,
            capture_output=True,
            encoding=encoding,
            timeout=LIMIT_S,
            check=False,
        )

    def terminal(self, *words):
        return Terminal([*OPENCODE, *words], cwd=self.work, env=self.environment)

    def server(self, *flags):
        port = self.variables["PORT"]
        command = [*OPENCODE, "serve", str(self.work), *flags]
        return Server(self.home, command, port=port, work=self.work, **self.variables)


def waiting(home):
    """A turn that says something and then waits."""
    return [[{"text": "one moment "}, {"wait_file": str(home / "never")}]]


@pytest.fixture
def command(tmp_path):
    return lambda turns, **variables: Command(tmp_path, turns, **variables)


# Without a server


def test_in_a_pipe_there_is_the_answer_alone(command):
    counting = [{"reasoning": "Hm."}, {"text": "I count."}, {"tool": "bash", "params": {"command": "seq 9"}}]
    opencode = command([counting, [{"text": "Counted."}]])

    done = opencode.process("run", "count")

    assert (done.returncode, done.stdout) == (0, "I count.\nCounted.\n")
    assert "● bash seq 9\n  1\n  2\n  3\n  … 3 more lines\n  7\n  8\n  9\n" in done.stderr
    assert "completed · " in done.stderr
    assert "\x1b" not in done.stderr


def test_a_terminal_that_does_not_know_a_character_gets_another(command):
    opencode = command([[{"text": "caf\u00e9 \u2603"}]], PYTHONIOENCODING="latin-1")

    done = opencode.process("run", "hi", encoding="latin-1")

    assert (done.returncode, done.stdout) == (0, "caf\u00e9 ?\n")


def test_what_is_piped_in_is_added_to_the_prompt(command):
    opencode = command([[{"text": "fine"}]])

    lines = opencode("run", "--json", "review", "this", piped="- a\n+ b\n").stdout.splitlines()
    alone = opencode.process("run", "--json", piped="only this").stdout.splitlines()

    assert json.loads(lines[0])["data"]["content"] == "review this\n\n- a\n+ b\n"
    assert json.loads(alone[0])["data"]["content"] == "only this"


def test_json_is_every_event_of_the_turn_and_nothing_else(command):
    opencode = command([[{"text": "caf\u00e9 "}, {"text": ESCAPES}]])

    done = opencode("run", "--json", "hi")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["event"] for event in events] == ["turn_start", "step", "text", "text", "done"]
    assert events[3]["data"]["content"] == ESCAPES
    assert events[-1]["data"]["events"] == len(events)
    assert done.stdout.isascii()
    assert done.returncode == 0
    listed = json.loads(opencode("session", "list", "--json").stdout)
    assert {event["session_id"] for event in events} == {listed[0]["id"]}


def test_in_a_terminal_each_kind_of_thing_begins_a_line(command):
    counting = [
        {"reasoning": "Hm."},
        {"text": "I "},
        {"text": "count."},
        {"tool": "bash", "params": {"command": "seq 2"}},
    ]
    opencode = command([counting, [{"text": "Counted."}]])

    with opencode.terminal("run", "count") as terminal:
        assert terminal.exit_code() == 0
        lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.text).splitlines()

    assert lines[:-1] == ["Hm.", "I count.", "● bash seq 2", "  1", "  2", "Counted."]
    assert re.fullmatch(r"completed · [\d,]+ tokens · \d+\.\d s · ses_\w+", lines[-1])


def test_what_a_model_says_reaches_no_terminal_raw(command):
    turns = [
        [{"reasoning": ESCAPES}, {"text": ESCAPES}, {"tool": "bash", "params": {"command": f"printf '{ESCAPES}'"}}],
        [{"error": {"code": "PROVIDER_ERROR", "message": ESCAPES}, "times": "always"}],
    ]
    opencode = command(turns)

    with opencode.terminal("run", "hi") as terminal:
        assert terminal.exit_code() == 1
        shown = terminal.text

    assert shown.count("calm") >= 4
    for raw in ("\x1b]0;", "\x1b[2J", "\x07"):
        assert raw not in shown
    assert "␛]0;owned␇␛[2Jcalm" in shown


def test_a_turn_that_fails_says_why_and_exits_with_1(command):
    done = command([[]], OPENCODE_MODEL="anthropic/claude-sonnet-4-5")("run", "hi")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "Error: " in done.stderr
    assert "ANTHROPIC_API_KEY" in done.stderr
    assert "(PROVIDER_NOT_CONFIGURED)" in done.stderr


def test_text_that_is_void_is_not_in_the_pipe(command):
    broken = {"error": {"code": "PROVIDER_UNAVAILABLE", "retryable": True, "retry_after_s": 0.01}}
    opencode = command([[{"text": "wrong "}, broken, {"text": "right"}]])

    assert opencode("run", "hi").stdout == "wrong right\n"  # once: the attempt that held says both
    with opencode.terminal("run", "hi again") as terminal:
        assert terminal.exit_code() == 0
        assert "broke off and is void" in terminal.text


def test_a_session_goes_on_by_name_and_as_the_newest(command):
    opencode = command([[{"text": "first"}], [{"text": "second"}], [{"text": "third"}]])
    session = json.loads(opencode("run", "--json", "one").stdout.splitlines()[0])["session_id"]

    assert opencode("run", "--session", session, "two").stdout == "second\n"
    assert opencode("run", "--continue", "three").stdout == "third\n"

    assert len(json.loads(opencode("session", "list", "--json").stdout)) == 1


def test_the_model_and_the_tools_can_be_chosen(command):
    opencode = command([[{"text": "hi"}]], OPENCODE_MODEL="demo/guide")

    lines = opencode("run", "--json", "-m", "scripted/script", "--tools", "read, grep", "x").stdout.splitlines()

    start = json.loads(lines[0])
    assert start["data"]["model"] == "scripted/script"
    shown = opencode("session", "show", start["session_id"]).stdout
    assert "tools      read, grep\n" in shown
    assert f"directory  {opencode.work}\n" in shown


def test_ctrl_c_stops_the_turn_and_exits_with_130(command, tmp_path):
    opencode = command(waiting(tmp_path))

    with opencode.terminal("run", "hi") as terminal:
        terminal.shows("one moment")
        terminal.type("\x03")
        assert terminal.exit_code() == 130
        shown = terminal.text

    assert "Stopping the turn." in shown
    assert "aborted · " in shown
    assert json.loads(opencode("session", "list", "--json").stdout)[0]["status"] == "idle"


def test_sigterm_hands_the_turn_back_for_the_next_start(command, tmp_path):
    opencode = command(waiting(tmp_path))

    with opencode.terminal("run", "hi") as terminal:
        terminal.shows("one moment")
        terminal.terminate()
        assert terminal.exit_code() == 143

    with closing(sqlite3.connect(opencode.home / "data" / "store.sqlite3")) as store:
        # Neither ended nor counted as a crash.
        assert store.execute("SELECT state FROM turns").fetchall() == [("queued",)]


@pytest.mark.parametrize(("key", "expected"), [("y\n", "done"), ("maybe\nn\n", "refused"), ("a\n", "done")])
def test_a_permission_is_asked_for_in_the_terminal(command, key, expected):
    turns = [[{"tool": "bash", "params": {"command": "echo a\necho done > file"}}], [{"text": "Ready."}]]
    opencode = command(turns, OPENCODE_PERMISSION="bash=ask")

    with opencode.terminal("run", "hi") as terminal:
        terminal.shows("[a]lways in this session:")
        # The whole of it: nobody shall say yes to what was not shown.
        assert "    echo a\n    echo done > file\n" in terminal.text
        terminal.type(key)
        assert terminal.exit_code() == 0
        shown = terminal.text

    assert "Ready." in shown
    assert (opencode.work / "file").exists() is (expected == "done")
    assert shown.count("Allow it?") == key.count("\n")


def test_where_nobody_can_be_asked_the_answer_is_no(command):
    turns = [[{"tool": "bash", "params": {"command": "touch file"}}], [{"text": "Ready."}]]
    opencode = command(turns, OPENCODE_PERMISSION="bash=ask")

    done = opencode("run", "hi")

    assert (done.returncode, done.stdout) == (0, "Ready.\n")
    assert "Nobody is here to allow bash: it is refused." in done.stderr
    assert not (opencode.work / "file").exists()


# With a server


def test_the_server_that_runs_is_used_and_the_directory_is_ones_own(command):
    opencode = command([[{"tool": "bash", "params": {"command": "pwd"}}], [{"text": "There."}]])
    inner = opencode.work / "inner"
    inner.mkdir()

    with opencode.server() as server:
        done = opencode.process("run", "where", cwd=inner)
        assert (done.returncode, done.stdout) == (0, "There.\n")
        assert f"  {inner}\n" in done.stderr
        refused = opencode.process("run", "where", cwd=opencode.home)
        sessions = Client(server).call("GET", "/api/sessions").json["sessions"]

    assert refused.returncode == 1
    assert f"does not work in {opencode.home}" in refused.stderr
    assert "--dir" in refused.stderr
    assert [session["title"] for session in sessions] == ["where"]


def test_ctrl_c_stops_the_turn_on_the_server(command, tmp_path):
    opencode = command(waiting(tmp_path))

    with opencode.server() as server:
        with opencode.terminal("run", "hi") as terminal:
            terminal.shows("one moment")
            terminal.type("\x03")
            assert terminal.exit_code() == 130
        client = Client(server)
        [session] = client.call("GET", "/api/sessions").json["sessions"]
        assert session["status"] == "idle"
        assert client.get(session["id"])["messages"][-1]["status"] == "aborted"


def test_a_turn_that_somebody_else_stops_exits_with_1(command, tmp_path):
    opencode = command(waiting(tmp_path))

    with opencode.server() as server, opencode.terminal("run", "hi") as terminal:
        terminal.shows("one moment")
        client = Client(server)
        [session] = client.call("GET", "/api/sessions").json["sessions"]
        client.call("POST", f"/api/session/{session['id']}/abort")
        assert terminal.exit_code() == 1


def test_a_token_comes_from_the_environment(command):
    opencode = command([[{"text": "hi"}]], OPENCODE_AUTH_TOKENS="ann:s3cret")

    with opencode.server() as server:
        url = f"http://127.0.0.1:{server.port}"
        let_in = opencode("run", "--url", url, "hi", OPENCODE_TOKEN="s3cret")
        refused = opencode("run", "--url", url, "hi", OPENCODE_TOKEN="guess")
    without = opencode("session", "list", OPENCODE_TOKEN="s3cret")

    assert (let_in.returncode, let_in.stdout) == (0, "hi\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Unknown token. (UNAUTHORIZED)\nSet OPENCODE_TOKEN" in refused.stderr
    assert "guess" not in refused.stderr
    # Her sessions are hers without the server, too.
    assert without.stdout.rstrip().endswith("hi")


def test_a_store_that_a_server_elsewhere_holds_is_explained(command):
    opencode = command([[{"text": "hi"}]])

    with opencode.server():
        done = opencode("run", "hi", PORT=free_port())

    assert done.returncode == 1
    assert "is in use by process" in done.stderr
    assert "--url http://localhost:<its port>" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_program_at_the_address_is_no_server(command):
    opencode = command([[{"text": "hi"}]])
    program = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(opencode.variables["PORT"])]
    with subprocess.Popen(program, cwd=opencode.home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        try:
            until(lambda: b"Serving" in other.stdout.readline(), LIMIT_S, "the other program to listen")
            done = opencode("run", "hi")
        finally:
            other.kill()

    assert (done.returncode, done.stdout) == (0, "hi\n")


# The command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Nothing to do"),
        (("--session", "ses_1", "--continue", "x"), "leave one out"),
        (("--session", "ses_1", "--tools", "read", "x"), "of new sessions"),
        (("--dir", "nowhere", "x"), "is no directory"),
        (("--url", "localhost", "x"), "no address of a server"),
        (("--nonsense",), "No such option"),
    ],
)
def test_a_wrong_command_line_exits_with_2(command, words, message):
    done = command([[]])("run", *words)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_said(command):
    opencode = command([[]])
    done = opencode("run", "--url", f"http://127.0.0.1:{opencode.variables['PORT']}", "hi")

    assert done.returncode == 1
    assert "No server answers at" in done.stderr
    assert "opencode serve" in done.stderr
