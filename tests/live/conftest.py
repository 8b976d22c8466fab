"""Servers that several tests share. Each test has a session of its own, and none stops what it did not start."""

import shutil
from pathlib import Path

import pytest

from tests.live.client import Client
from tests.live.provider import AnthropicByPrompt, OpenAIByPrompt
from tests.live.server import ROOT, Server

OPENAI_KEY = "sk-live-openai-key"
ANTHROPIC_KEY = "sk-ant-live-anthropic-key"
#: With these gevent says on stderr where something has blocked its loop, and for how many seconds it may.
WATCH = {"GEVENT_MONITOR_THREAD_ENABLE": "true", "GEVENT_MAX_BLOCKING_TIME": "0.2"}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def openai_wire():
    with OpenAIByPrompt(api_key=OPENAI_KEY) as wire:
        yield wire


@pytest.fixture(scope="session")
def anthropic_wire():
    with AnthropicByPrompt(api_key=ANTHROPIC_KEY) as wire:
        yield wire


@pytest.fixture(scope="session")
def server(tmp_path_factory, openai_wire, anthropic_wire):
    """`opencode serve` with both providers behind real HTTP; what they answer, each test says by its prompt."""
    server = Server.serve(
        tmp_path_factory.mktemp("shared"),
        OPENCODE_MODEL="openai/wire-model",
        OPENCODE_RATE_LIMIT="off",
        OPENCODE_LOG_LEVEL="debug",
        OPENAI_API_KEY=OPENAI_KEY,
        OPENAI_BASE_URL=openai_wire.base_url,
        ANTHROPIC_API_KEY=ANTHROPIC_KEY,
        ANTHROPIC_BASE_URL=anthropic_wire.base_url,
    )
    with server:
        yield server


@pytest.fixture(scope="session")
def guide(tmp_path_factory):
    """What a newcomer has: no key, `demo/guide`, the example; and gevent watches that nothing blocks its loop."""
    home = tmp_path_factory.mktemp("guide")
    shutil.copytree(ROOT / "examples" / "calculator", home / "work", ignore=shutil.ignore_patterns("__pycache__"))
    with Server.serve(home, OPENCODE_RATE_LIMIT="off", **WATCH) as server:
        yield server


@pytest.fixture
def client(server):
    return Client(server)
