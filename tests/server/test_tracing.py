"""Spans of OpenTelemetry, read with its own in-memory exporter."""

import os
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opencode import telemetry
from opencode.errors import ProviderError
from opencode.provider.port import Text, ToolCall, Usage
from opencode.provider.scripted import Fail
from tests.live.server import ROOT, until
from tests.server.talk import create, say, turn

TOOL = [[ToolCall("c", "bash", {"command": "echo s3cret"}), Usage(1, 1)], [Text("done"), Usage(1, 1)]]
CALLER = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans():
    """Waits for as many spans as it is told, and gives them by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def named(*names):
        until(
            lambda: set(names) <= {span.name for span in exporter.get_finished_spans()}, 30, exporter.get_finished_spans
        )
        return {span.name: span for span in exporter.get_finished_spans()}

    with telemetry.traced_by(provider):
        yield named
    provider.shutdown()


def test_a_turn_is_part_of_its_request_and_models_and_tools_are_parts_of_the_turn(make_app, spans):
    client = make_app(TOOL).test_client()
    session = create(client)
    parent = {"traceparent": f"00-{CALLER}-b7ad6b7169203331-01", "X-Request-Id": "req-1"}
    events = say(client, session, "go", headers=parent).rest()

    request_name = "POST /api/session/<session_id>/message"
    found = spans("turn", "chat script", "execute_tool bash", request_name)
    request, work = found[request_name], found["turn"]
    assert f"{request.context.trace_id:032x}" == CALLER
    assert work.parent.span_id == request.context.span_id
    assert {found[name].parent.span_id for name in ("chat script", "execute_tool bash")} == {work.context.span_id}
    ids = {"session_id": session, "turn_id": events[0].data["turn_id"], "owner": "local"}
    assert work.attributes.items() >= ids.items()
    about = {"http.request.method": "POST", "http.response.status_code": 200, "request_id": "req-1", **ids}
    assert request.attributes.items() >= about.items()
    assert found["chat script"].attributes["gen_ai.request.model"] == "script"
    assert "s3cret" not in "".join(span.to_json() for span in found.values())


def test_what_fails_is_marked_by_its_kind(make_app, spans):
    app = make_app([[Fail(ProviderError("the key s3cret is wrong", code="PROVIDER_AUTH"))]])
    client = app.test_client()
    turn(client, create(client))

    chat = spans("turn", "chat script")["chat script"]

    assert (chat.attributes["error.type"], chat.status.is_ok) == ("PROVIDER_AUTH", False)
    assert "s3cret" not in chat.to_json()


def test_nothing_is_traced_where_nobody_asks(client):
    span = telemetry.begin("x", {})
    span.note({"a": 1})
    span.end(failed="no")

    assert client.get("/health").status_code == 200


SET_UP = """
import logging, os, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from opencode import telemetry
telemetry.set_up(os.environ)
print("sdk" if "opentelemetry.sdk.trace" in sys.modules else "none")
with telemetry.span("one", session_id="ses_1"):
    pass
"""


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "none"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "must be one of otlp, console, none"),
        ({"OTEL_TRACES_EXPORTER": "console"}, '"name": "one"'),
    ],
)
def test_the_standard_variables_set_it_up(variables, said):
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", SET_UP], env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_without_the_extra_it_says_what_to_install(tmp_path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    environ = {"PATH": os.defpath, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OTEL_TRACES_EXPORTER": "otlp"}
    done = subprocess.run(
        [sys.executable, "-c", SET_UP], env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "pip install 'opencode-server[otel]'" in done.stdout
