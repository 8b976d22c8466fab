"""What the server knows and nobody else shall: keys, tokens and passwords, looked for in all that leaves it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from opencode.errors import SettingsError
from opencode.settings import Settings, load
from opencode.storage.sql import open_store
from tests.live.client import Client
from tests.live.provider import OpenAIByPrompt
from tests.live.server import Server, run

SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-hidden-4f1d",
    "OPENAI_API_KEY": "sk-hidden-openai-9c2b",
    "OPENCODE_AUTH_TOKENS": "ann:hidden-token-77aa",
    "OPENCODE_SECRET_KEY": "hidden-signing-key-c3-of-at-least-32-characters",
    "OPENCODE_WEBHOOK_SECRET": "hidden-webhook-5e5e",
    "AWS_SECRET_ACCESS_KEY": "hidden-aws-0b0b",
    "GITHUB_TOKEN": "ghp_hidden_1a2b3c",
    "REDISCLI_AUTH": "hidden-redis-d4d4",
}
HIDDEN = [value.removeprefix("ann:") for value in SECRETS.values()]
TOKEN = HIDDEN[2]
LOOK = """
env; export; set
for f in environ maps mem cmdline; do cat /proc/[0-9]*/$f; done 2> /dev/null | tr '\\0' '\\n' | grep -aiE 'hidden' | head -n 20
ls -l /proc/{pid}/fd /proc/{pid}/cwd 2>&1
cat /proc/{pid}/environ 2>&1 | tr '\\0' '\\n'
true
"""


@pytest.fixture(scope="module")
def wire():
    with OpenAIByPrompt(api_key=SECRETS["OPENAI_API_KEY"]) as wire:
        yield wire


@pytest.fixture(scope="module")
def server(tmp_path_factory, wire):
    server = Server.serve(
        tmp_path_factory.mktemp("secrets"),
        token=TOKEN,
        OPENCODE_MODEL="openai/wire-model",
        OPENCODE_LOG_LEVEL="debug",
        OPENCODE_RATE_LIMIT="off",
        OPENAI_BASE_URL=wire.base_url,
        **SECRETS,
    )
    if os.geteuid() == 0 and shutil.which("setpriv"):
        # Root without capabilities is a user like others: it is not these that keep the server's memory closed.
        server.command = ["setpriv", "--bounding-set", "-all", "--", *server.command]
    with server:
        yield server


def assert_hidden(text, where):
    data = text if isinstance(text, bytes) else text.encode()
    found = [secret for secret in HIDDEN if secret.encode() in data]
    assert not found, f"{found} in {where}:\n{data[-3000:]!r}"


def test_a_whole_turn_shows_none_of_them_anywhere(server, wire):
    # Given a turn whose command looks everywhere for them, and one whose provider throws its key back
    client = Client(server, token=TOKEN)
    session = client.session(title="secrets")
    pid = server.workers()[-1]
    prompt = wire.script(
        [
            [
                {"tool": "bash", "params": {"command": LOOK.format(pid=pid)}},
                {"tool": "grep", "params": {"pattern": "hidden"}},
            ],
            [{"text": "I looked."}],
        ]
    )
    told = f"Incorrect API key provided: {SECRETS['OPENAI_API_KEY']}."
    refused = wire.script([[{"refuse": {"status": 401, "code": "invalid_api_key", "message": told}}]])

    # When
    streamed = []
    for content, where in ((prompt, session), (refused, client.session())):
        with client.post(where, content) as stream:
            streamed.append(stream.rest())
    # Then the command has run, and what it printed has none
    shown = "".join(str(event) for events in streamed for event in events)
    assert "GIT_TERMINAL_PROMPT=0" in shown
    assert "PROVIDER_AUTH" in shown
    assert_hidden(shown, "the streams")

    # nor what the model was told, nor any answer, nor an error, nor the log, nor the store
    assert_hidden("".join(str(request.body) for request in wire.requests), "the prompts")
    paths = ["/api/sessions", f"/api/session/{session}", f"/api/session/{session}/diff", "/api/models", "/api/project"]
    paths += ["/api/project/current", "/tui/state", "/health", "/health/ready", "/openapi.json", "/api/nowhere"]
    paths += [f"/api/session/{session}?limit=none", f"/api/session/{session}/message?after=-1"]
    for path in paths:
        answer = client.call("GET", path)
        assert_hidden(answer.data + str(answer.headers).encode(), path)
    for token in ("wrong", TOKEN[:-1], f"{TOKEN}x"):
        answer = Client(server, token=token).call("GET", "/api/sessions")
        assert answer.status == 401
        assert_hidden(answer.data, "a refusal")
    bad = client.call("POST", "/api/session", {"model": "nowhere/x", "tools": ["none"], "directory": "/etc"})
    assert bad.status == 400
    assert_hidden(bad.data, "a refusal")
    assert_hidden(server.output(), "the log")
    for path in (server.home / "data").rglob("*"):
        if path.is_file():
            assert_hidden(path.read_bytes(), path)


def test_master_and_worker_are_closed_to_a_process_of_the_same_user(server):
    look = ["/bin/sh", "-c", "cd /proc/$1; cat environ maps auxv; ls -l fd/0", "sh"]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("no setpriv")
        look = ["setpriv", "--bounding-set", "-all", "--", *look]
    with subprocess.Popen(["sleep", "60"]) as open_one:
        try:
            ran = subprocess.run(["cat", f"/proc/{open_one.pid}/environ"], capture_output=True, check=True, timeout=30)
        finally:
            open_one.kill()
    assert b"PATH=" in ran.stdout

    for pid in (server.pid, server.workers()[-1]):
        ran = subprocess.run([*look, str(pid)], capture_output=True, text=True, check=False, timeout=30)
        assert "hidden" not in ran.stdout
        assert "libc" not in ran.stdout
        assert ran.stderr.count("ermission denied") >= 4, ran


def test_a_start_that_is_refused_does_not_say_the_databases_password(tmp_path):
    (tmp_path / "work").mkdir()
    command = Server.serve(tmp_path).command

    ended = run(command, tmp_path, seconds=60, DATABASE_URL="mysql://ann:hidden-password@127.0.0.1:1/x")

    assert ended.returncode
    assert "DATABASE_URL" in ended.stderr
    assert "hidden-password" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://ann:hidden-password@127.0.0.1:1/x", "sqlite://ann:hidden-password@h/x", "hidden-password"),
        *("postgresql://ann:hidden-password@[::", "sqlite:///x?key=hidden-password"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(tmp_path, url):
    with pytest.raises(SettingsError) as refused:
        open_store(url, tmp_path)

    assert "hidden-password" not in str(refused.value)


def test_neither_the_settings_nor_their_errors_show_them(tmp_path):
    password = "postgresql://ann:hidden-password@db/x"
    url = "https://ann:hidden-password@proxy/v1"
    environ = {**SECRETS, "DATABASE_URL": password, "OPENAI_BASE_URL": url, "ANTHROPIC_BASE_URL": url}
    settings, warnings = load(environ, directory=tmp_path)

    shown = f"{settings!r} {settings!s} {warnings} {[settings]}"

    assert isinstance(settings, Settings)
    assert_hidden(shown, "the settings")
    assert "hidden" not in shown
    assert Path(settings.data_dir)
