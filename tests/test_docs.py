"""The docs are held to the code: what they list is what there is, and the README's commands run as printed."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from opencode.cancel import Cancel
from opencode.errors import ApiError
from opencode.server.factory import create_app
from opencode.server.ws_commands import SCOPES
from opencode.server.ws_messages import COMMANDS
from opencode.session.events import EVENTS, Event, TurnEvent
from opencode.settings import Settings, variable
from opencode.tool.port import ToolContext, ToolOutcome
from opencode.tool.toolbox import Toolbox
from opencode.wiring import build_services
from scripts import settings_table
from tests.live.server import Server, run
from tests.server.talk import create, turn
from tests.sse import Parser

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
#: The contract is a page of its own making, with links of its own; all others are ours to keep.
PAGES = sorted(page for place in (".", "docs", "docs/how-to", "docs/decisions") for page in (ROOT / place).glob("*.md"))
#: Sent on streams without being part of a session's log.
BESIDE_THE_LOG = {"session_deleted", "resync"}


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def table(page: Path, first_column: str) -> list[list[str]]:
    """The cells of the table whose head begins with `first_column`, without the head."""
    found = re.search(rf"^\| {first_column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text(page), re.MULTILINE)
    assert found, f"{page.name} has no table of {first_column}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[1].splitlines()]


def subclasses(kind: type) -> set[type]:
    return {found for own in kind.__subclasses__() for found in {own, *subclasses(own)}}


# What the docs list


def test_the_settings_page_is_made_from_the_fields():
    page = text(settings_table.PAGE)

    assert page == settings_table.rewritten(page), "run: python -m scripts.settings_table"


def test_every_setting_that_the_docs_name_exists():
    known = {variable(field) for field in Settings.model_fields.values()}
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"\b(?:OPENCODE|ANTHROPIC|OPENAI)_[A-Z_]*[A-Z]\b", text(page))
    }

    assert {(page, name) for page, name in named if name not in known} == set()


def test_every_route_is_in_the_guide_with_its_scope_and_no_other(app: Flask):
    documented = {
        (method, re.sub(r":\w+", ":", names(path)[0]), scope) for method, path, _, scope in table(API, "method")
    }
    routes = {
        (method, re.sub(r"<[^>]+>", ":", rule.rule), app.view_functions[rule.endpoint].contract.scope or "open to all")
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert documented == routes


def test_every_event_is_in_the_guide_with_its_fields():
    documented = {names(event)[0]: names(fields) for event, fields, _ in table(API, "event")}

    assert documented == {event.name: _fields(event) for event in EVENTS}


def _fields(event: type[Event]) -> list[str]:
    beside = {"turn_id"} if issubclass(event, TurnEvent) else set()
    return [field.name for field in dataclasses.fields(event) if field.name not in beside]


def test_events_beside_the_log_are_in_the_guide():
    assert {name for name in BESIDE_THE_LOG if f"`{name}`" not in text(API)} == set()


def test_every_error_is_in_the_guide_with_its_status():
    assert {(names(code)[0], status) for code, status, _ in table(API, r"code \| status")} == {
        (error.code, str(error.status)) for error in subclasses(ApiError)
    }


def test_every_code_of_a_turn_is_in_the_guide():
    sources = [path for folder in ("session", "provider") for path in (ROOT / "opencode" / folder).rglob("*.py")]
    used = {code for path in sources for code in re.findall(r'\bcode="([A-Z_]+)"', text(path))}

    assert {names(code)[0] for code, _ in table(API, r"code \| meaning")} == used


# What the docs point at


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text(place), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", own).strip().lower().replace(" ", "-") for own in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_the_docs_name_exist(page: Path):
    named = re.findall(
        r"`((?:opencode|tests|scripts|docs|examples)/[\w./-]*|\w+\.(?:toml|cfg)|[\w/]+\.py)`", text(page)
    )
    # `opencode.toml` is the user's; a bare name is a module of the package.
    missing = [
        name
        for name in named
        if name != "opencode.toml" and not (ROOT / name).exists() and not list((ROOT / "opencode").rglob(name))
    ]

    assert missing == []


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    titles = {path.name: text(path).splitlines()[0].partition(" ")[2] for path in folder.glob("[0-9]*.md")}
    listed = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|$", text(folder / "README.md"), re.MULTILINE)

    assert {name: f"{number} {title}" for number, name, title in listed} == titles


def test_decisions_say_context_decision_consequences_and_what_was_rejected():
    for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"):
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text(path), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Rejected"], path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_docs_speak_of_the_project_alone(page: Path):
    """Nothing of the machine that they were written on."""
    assert re.findall(r"(?<![\w.])/(?:work|root|home|tmp|Users)/\S*|\.\./shared\S*|issues show", text(page)) == []


# What the README says to type


def test_the_two_commands_are_the_makefiles():
    verbs = set(re.findall(r"^(\w+):", text(ROOT / "Makefile"), re.MULTILINE))
    first = text(README).split("```")[0]

    assert re.findall(r"^    make (\w+)", first, re.MULTILINE) == ["run", "test"]
    assert set(re.findall(r"\bmake (\w+)", text(README))) <= verbs


@pytest.fixture
def served_example(tmp_path: Path):
    """The server as `make run` starts it, on a copy of the example."""
    work = shutil.copytree(ROOT / "examples" / "calculator", tmp_path / "calculator")
    with Server.serve(tmp_path / "home", work=work, OPENCODE_MODEL="demo/guide") as server:
        yield server


@pytest.mark.live
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_first_screen_runs_as_printed(served_example: Server):
    script = re.findall(r"^```sh\n(.*?)^```", text(README), re.MULTILINE | re.DOTALL)[0]
    assert script.count("http://localhost:3000/") == 3
    script = script.replace("localhost:3000", f"localhost:{served_example.port}")

    done = subprocess.run(
        ["sh", "-eu", "-c", script], env=served_example.environment, capture_output=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    stream, _, listed = done.stdout.rpartition(b"\n\n")
    events = Parser().feed(stream + b"\n\n")
    seen = [event.name for event in events]
    assert {"turn_start", "step", "reasoning", "text", "tool_call", "tool_output", "tool_result"} <= set(seen)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert seen.index("done") == len(seen) - 1
    assert events[-1].data["status"] == "completed"
    assert b'"status":"idle"' in listed
    assert "return a / b" in (served_example.work / "calculator.py").read_text()
    # And the excerpt below it shows events as they are.
    excerpt = re.findall(r"^```\n(id: .*?)^```", text(README), re.MULTILINE | re.DOTALL)[0]
    for shown in Parser().feed(f"{excerpt}\n".encode()):
        like = next(own for own in events if own.name == shown.name and _alike(own.data, shown.data))
        assert like.data.keys() == shown.data.keys()


@pytest.mark.live
@pytest.mark.timeout(300)
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_tutorial_runs_as_printed(served_example: Server):
    blocks = re.findall(r"^```sh\n(.*?)^```", text(ROOT / "docs" / "tutorial.md"), re.MULTILINE | re.DOTALL)
    script = "echo =====\n".join(blocks).replace("localhost:3000", f"localhost:{served_example.port}")

    done = subprocess.run(
        ["sh", "-eu", "-c", script], env=served_example.environment, capture_output=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    health, session, tests, edit, diff, again, asked, answered = done.stdout.decode().split("=====\n")
    assert '"status":"ok"' in health
    assert re.fullmatch(r"ses_\w{26}\n", session)
    assert "FAILED (failures=1)" in tests
    assert '"status":"completed"' in edit
    assert "-    return a // b\\n+    return a / b\\n" in diff
    assert int(again.split("\n")[0]) > 10
    assert session.strip() in again
    assert '"title":"run the tests"' in asked
    assert answered.startswith('{"success":true}')
    assert '"result":"3.5\\n"' in answered
    assert '"status":"completed"' in answered
    assert "return a / b" in (served_example.work / "calculator.py").read_text()


def python_of(page: str) -> dict[str, Any]:
    """The names that a how-to page's program leaves behind."""
    [program] = re.findall(r"^```python\n(.*?)^```", text(ROOT / "docs" / "how-to" / page), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    return names


def test_the_tool_of_the_how_to_does_what_it_says(tmp_path: Path):
    toolbox = Toolbox([python_of("tool.md")["Count"]()])
    (tmp_path / "a.txt").write_text("three short words\n")
    context = ToolContext(tmp_path, Cancel())

    assert toolbox.run("count", {"path": "a.txt"}, context) == ToolOutcome("a.txt has 3 words.")
    assert toolbox.run("count", {"path": "../a.txt"}, context).is_error
    refused = toolbox.run("count", {"file": "a.txt"}, context)
    assert refused.is_error
    assert "path" in refused.content


def test_the_provider_of_the_how_to_completes_a_turn(make_app):
    settings = make_app.settings(model="echo/parrot")
    services = build_services(settings, {"PATH": os.defpath}, providers={"echo": python_of("provider.md")["Echo"]()})
    try:
        client = create_app(services=services).test_client()
        events = turn(client, create(client), "say it again")
    finally:
        services.stop(0.0)

    assert "".join(event.data["content"] for event in events if event.name == "text") == "say it again "
    assert events[-1].data["status"] == "completed"
    assert events[-1].data["usage"] == {"input": 3, "output": 3, "cached": 0}


@pytest.mark.live
def test_the_middleware_of_the_how_to_runs_as_printed(tmp_path: Path):
    [program] = re.findall(
        r"^```python\n(.*?)^```", text(ROOT / "docs" / "how-to" / "middleware.md"), re.MULTILINE | re.DOTALL
    )

    done = run([sys.executable, "-W", "error", "-c", program], tmp_path, cwd=tmp_path, PYTHONPATH=ROOT, seconds=100)

    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "200 tools"
    assert second.startswith('403 {"error":{"code":"FORBIDDEN","message":"No new sessions for now')


@pytest.mark.live
def test_the_websocket_example_runs_as_printed(served_example: Server):
    [script] = re.findall(r"^```python\n(import json\nfrom websockets.*?)^```", text(API), re.MULTILINE | re.DOTALL)
    assert script.count("localhost:3000") == 1
    script = script.replace("localhost:3000", f"localhost:{served_example.port}")

    done = subprocess.run(
        [sys.executable, "-c", script], env=served_example.environment, capture_output=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    assert b"calculator.py" in done.stdout


def test_every_message_that_a_websocket_takes_is_in_the_guide_with_its_fields_and_scope():
    documented = {
        names(kind)[0]: ({name for name in names(fields) if name.isidentifier()}, scope)
        for kind, fields, _, scope in table(API, "you send")
    }
    taken = {
        kind: (set(model.model_fields) - {"type", "id"}, SCOPES.get(model, "read")) for kind, model in COMMANDS.items()
    }
    taken["create_session"] = (set(), "write")  # its fields are those of the route
    assert documented == taken


def _alike(real: dict, shown: dict) -> bool:
    """The same but for ids, which are shortened, and counts, which differ from run to run."""
    same = ("content", "model", "tool", "params", "result", "status")
    return all(real.get(name) == shown.get(name) for name in same)
