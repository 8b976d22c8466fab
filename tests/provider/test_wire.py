"""The wire servers as processes of their own, as tests of a whole server use them."""

import json
import subprocess
import sys

import pytest

from opencode.provider.anthropic import Anthropic
from opencode.provider.openai import OpenAI
from opencode.provider.port import AssistantMessage, Text
from tests.provider.asking import PROMPT, ask


@pytest.mark.parametrize(("module", "provider_class"), [("anthropic_server", Anthropic), ("openai_server", OpenAI)])
def test_a_wire_runs_as_a_process_and_follows_each_conversation(tmp_path, module, provider_class):
    script = tmp_path / "script.json"
    turns = [[{"text": "one"}], [{"text": "two"}]]
    script.write_text(json.dumps({"turns": turns, "per_conversation": True}), encoding="utf-8")
    command = [sys.executable, "-m", f"tests.wire.{module}", "--script", str(script), "--seconds", "60"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        provider = provider_class(api_key="k", base_url=process.stdout.readline().strip(), timeout_s=10)
        first = ask(provider)
        second = ask(provider, PROMPT, AssistantMessage("one"), PROMPT)
        again = ask(provider)
        provider.close()
        process.terminate()

    assert (Text("one") in first, Text("two") in second, Text("one") in again) == (True, True, True)


def test_a_wire_stops_by_itself(tmp_path):
    script = tmp_path / "script.json"
    script.write_text('{"turns": []}', encoding="utf-8")
    command = [sys.executable, "-m", "tests.wire.openai_server", "--script", str(script), "--seconds", "0.1"]

    done = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True)

    assert done.stdout.startswith("http://127.0.0.1:")
