"""What every tool promises, asked of all seven through the toolbox."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest

from opencode.errors import Cancelled, StaleAttempt, ToolError
from opencode.tool.port import ToolContext
from opencode.tool.toolbox import Toolbox
from tests.tool.desk import Background, Desk

GOOD = {
    "bash": {"command": "cat a.txt"},
    "read": {"path": "a.txt"},
    "write": {"path": "new.txt", "content": "hello\n"},
    "edit": {"path": "a.txt", "old_string": "apple", "new_string": "pear"},
    "grep": {"pattern": "apple", "path": "a.txt"},
    "glob": {"pattern": "*.txt", "path": "sub"},
    "list": {"path": "sub"},
}
REQUIRED = {
    "bash": {"command"},
    "read": {"path"},
    "write": {"path", "content"},
    "edit": {"path", "old_string", "new_string"},
    "grep": {"pattern"},
    "glob": {"pattern"},
    "list": set(),
}
OPTIONAL = {
    "bash": {"timeout_s", "description"},
    "read": {"offset", "limit"},
    "write": set(),
    "edit": {"replace_all"},
    "grep": {"path", "include"},
    "glob": {"path"},
    "list": {"path"},
}
TOOLS = list(GOOD)
FIELDS = [(tool, field) for tool in TOOLS for field in sorted(REQUIRED[tool] | OPTIONAL[tool])]
TAKE_A_PATH = [tool for tool in TOOLS if tool != "bash"]
TAKE_A_FILE = ["read", "write", "edit", "grep"]
TAKE_A_FOLDER = ["grep", "glob", "list"]
SECRET = "apple of the neighbour"


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "work")
    desk.put("a.txt", "apple\n")
    desk.put("sub/b.txt", "apple\n")
    # A sibling whose name begins like the session's directory.
    outside = tmp_path / "work-outside"
    outside.mkdir()
    (outside / "a.txt").write_text(f"{SECRET}\n")
    return desk


def tool(desk, name):
    return desk.toolbox.specs([name])[0]


def assert_readable(message):
    assert "\n" not in message
    assert len(message) < 400
    for noise in ("pydantic", "https://", "Traceback", "input_value", "Error("):
        assert noise not in message


@pytest.mark.parametrize("name", TOOLS)
def test_a_good_call_returns_text(desk, name):
    assert desk.works(name, **GOOD[name])


@pytest.mark.parametrize("name", TOOLS)
def test_the_parameters_are_a_plain_schema_that_says_what_the_tool_takes(desk, name):
    parameters = tool(desk, name).parameters

    jsonschema.Draft202012Validator.check_schema(parameters)
    jsonschema.validate(GOOD[name], parameters)
    assert parameters["type"] == "object"
    assert parameters["additionalProperties"] is False
    assert set(parameters["required"]) == REQUIRED[name]
    assert set(parameters["properties"]) == REQUIRED[name] | OPTIONAL[name]
    for field in parameters["properties"].values():
        assert field["type"] in {"string", "number", "integer", "boolean"}
        assert field["description"]
        assert not field.keys() & {"title", "anyOf", "default", "$ref"}


@pytest.mark.parametrize("name", TOOLS)
def test_the_description_is_for_a_reader(desk, name):
    assert 40 < len(tool(desk, name).description) < 900


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in TOOLS for field in REQUIRED[name]])
def test_a_missing_argument_is_named(desk, name, field):
    message = desk.fails(name, **{key: value for key, value in GOOD[name].items() if key != field})

    assert f"`{field}` is missing" in message
    assert_readable(message)


@pytest.mark.parametrize("name", TOOLS)
def test_an_unknown_argument_is_named_with_those_there_are(desk, name):
    message = desk.fails(name, **GOOD[name], colour="red")

    assert "`colour`" in message
    assert all(field in message for field in REQUIRED[name] | OPTIONAL[name])
    assert_readable(message)


@pytest.mark.parametrize(("name", "field"), FIELDS)
@pytest.mark.parametrize("value", [{"x": 1}, [1], {}], ids=str)
def test_an_argument_of_the_wrong_type_is_named(desk, name, field, value):
    message = desk.fails(name, **GOOD[name] | {field: value})

    assert f"`{field}`" in message
    assert_readable(message)


@pytest.mark.parametrize("name", TOOLS)
def test_null_for_an_optional_argument_is_as_if_it_were_left_out(desk, name):
    desk.works(name, **dict.fromkeys(OPTIONAL[name]) | GOOD[name])


@pytest.mark.parametrize(("name", "field"), FIELDS)
@pytest.mark.parametrize("value", ["", "\0", "a\0b", "\ud800", "x" * 5000, "\n", "-", "--", "~", "/", "//", "*", "["])
def test_an_odd_string_is_a_result_and_never_a_crash(desk, name, field, value):
    outcome = desk.call(name, **GOOD[name] | {field: value})

    outcome.content.encode()
    assert "fault of its own" not in outcome.content


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("params", [[], "a.txt", None, 3], ids=str)
def test_arguments_that_are_no_object_are_refused(desk, name, params):
    assert not isinstance(params, Mapping)
    with pytest.raises(ToolError, match="must be an object"):
        tool(desk, name).run(params, desk.context())


@pytest.mark.parametrize("name", TOOLS)
def test_a_switch_turned_before_the_call_stops_it_before_it_does_anything(desk, name):
    desk.cancel.cancel("aborted")
    before = desk.names()

    with pytest.raises(Cancelled, match="aborted"):
        tool(desk, name).run(GOOD[name], desk.context())
    with pytest.raises(Cancelled, match="aborted"):
        desk.call(name, **GOOD[name])

    assert desk.names() == before
    assert desk.changes == []


@pytest.mark.parametrize("name", TOOLS)
def test_one_tool_serves_several_callers_at_once(desk, tmp_path, name):
    desks = [Desk(tmp_path / f"session{number}") for number in range(4)]
    for number, other in enumerate(desks):
        other.toolbox = desk.toolbox
        other.put("a.txt", f"apple {number}\n")
        other.put("sub/b.txt", "apple\n")

    calls = [Background(lambda other=other: other.works(name, **GOOD[name])) for other in desks]
    results = [call.join() for call in calls]

    assert [call.error for call in calls] == [None] * 4
    if name in {"bash", "read", "grep"}:
        assert [f"apple {number}" in result for number, result in enumerate(results)] == [True] * 4


@pytest.mark.parametrize("name", TOOLS)
def test_a_directory_that_is_gone_is_an_error_and_is_not_made_again(desk, tmp_path, name):
    gone = tmp_path / "gone"

    outcome = desk.toolbox.run(name, GOOD[name], ToolContext(gone, desk.cancel))

    assert outcome.is_error
    assert "exist" in outcome.content
    assert not gone.exists()


# --- confinement ---


@pytest.mark.parametrize("name", TAKE_A_PATH)
@pytest.mark.parametrize(
    "path",
    ["..", "../work-outside", "../work-outside/a.txt", "sub/../../work-outside/a.txt", "/", "/etc/passwd", "{outside}",
     "{outside}/a.txt", "link-file", "link-folder", "link-folder/a.txt", "link-up/work-outside/a.txt", "chain"],
)  # fmt: skip
def test_a_path_that_leads_outside_is_refused(desk, tmp_path, name, path):
    # Given every kind of symlink that leads out
    outside = tmp_path / "work-outside"
    (desk.directory / "link-file").symlink_to(outside / "a.txt")
    (desk.directory / "link-folder").symlink_to("../work-outside")
    (desk.directory / "link-up").symlink_to("..")
    (desk.directory / "chain").symlink_to("link-folder/a.txt")

    # When
    message = desk.fails(name, **GOOD[name] | {"path": path.format(outside=outside)})

    # Then
    assert "outside the session's directory" in message
    assert SECRET not in message
    assert (outside / "a.txt").read_text() == f"{SECRET}\n"
    assert [path.name for path in outside.iterdir()] == ["a.txt"]
    assert desk.changes == []


@pytest.mark.parametrize("name", ["grep", "glob", "list"])
def test_a_search_does_not_go_through_a_symlink_to_the_outside(desk, tmp_path, name):
    (desk.directory / "link").symlink_to(tmp_path / "work-outside")

    content = desk.works(name, **{"grep": {"pattern": "apple"}, "glob": {"pattern": "**/a.txt"}, "list": {}}[name])

    assert SECRET not in content
    assert "link/a.txt" not in content


@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_an_absolute_path_inside_is_taken(desk, name):
    desk.works(name, **GOOD[name] | {"path": str(desk.directory / GOOD[name]["path"])})


@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_a_path_may_lead_in_by_a_symlink_from_outside(desk, tmp_path, name):
    (tmp_path / "door").symlink_to(desk.directory)

    desk.works(name, **GOOD[name] | {"path": f"{tmp_path}/door/{GOOD[name]['path']}" if "path" in GOOD[name] else "."})


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("replaced", ["work", "above", "top"])
def test_a_directory_that_a_symlink_has_replaced_is_not_worked_in(tmp_path, name, replaced):
    # Given a directory, and beside it, or beside a folder above it, another of the same form
    desk = Desk(tmp_path / "top" / "above" / "work")
    desk.put("a.txt", "apple\n")
    desk.put("sub/b.txt", "apple\n")
    outside = shutil.copytree(tmp_path / "top", tmp_path / "other")
    for file in (outside / "above" / "work").rglob("*.txt"):
        file.write_text(f"{SECRET}\n")
    before = {path: path.read_text() for path in outside.rglob("*.txt")}

    # When it takes its place
    there = next(path for path in (desk.directory, *desk.directory.parents) if path.name == replaced)
    there.rename(tmp_path / "gone")
    there.symlink_to(next(path for path in (outside, *outside.rglob("*")) if path.name in {replaced, "other"}
                          and len(path.parts) == len(there.parts)))  # fmt: skip
    assert (desk.directory / "a.txt").read_text() == f"{SECRET}\n"
    message = desk.fails(name, **GOOD[name])

    # Then
    assert SECRET not in message
    assert "outside the session's directory" in message or "was replaced" in message
    assert {path: path.read_text() for path in outside.rglob("*.txt")} == before


DIRECTORY_SWAPPER = """
import os, sys
print("ready", flush=True)
while os.getppid() == int(sys.argv[1]):
    os.rename("work", "kept"); os.rename("link", "work")
    os.rename("work", "link"); os.rename("kept", "work")
"""


@pytest.mark.once
@pytest.mark.parametrize("name", TOOLS)
def test_a_directory_that_is_replaced_during_the_call_leads_nowhere(desk, tmp_path, name):
    # Given a directory in whose place another process puts a symlink to the outside again and again
    (tmp_path / "work-outside" / "sub").mkdir()
    (tmp_path / "work-outside" / "sub" / "b.txt").write_text(f"{SECRET}\n")
    (tmp_path / "link").symlink_to("work-outside")
    params = GOOD[name] | ({"content": "new"} if name == "write" else {})
    command = [sys.executable, "-c", DIRECTORY_SWAPPER, str(os.getpid())]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as swapper:
        try:
            swapper.stdout.readline()

            # When
            outcomes = []
            deadline = time.monotonic() + (2 if name == "bash" else 0.7)
            while time.monotonic() < deadline:
                outcomes.append(desk.call(name, **params))
        finally:
            swapper.kill()

    # Then
    assert not any(SECRET in outcome.content or "fault" in outcome.content for outcome in outcomes)
    assert sorted(path.name for path in (tmp_path / "work-outside").iterdir()) == ["a.txt", "sub"]
    assert (tmp_path / "work-outside" / "a.txt").read_text() == f"{SECRET}\n"


@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_a_symlink_that_stays_inside_is_followed(desk, name):
    (desk.directory / "again").symlink_to(".")

    desk.works(name, **GOOD[name] | {"path": f"again/{GOOD[name]['path']}"})

    assert all(change.path == GOOD[name]["path"] for change in desk.changes)


@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_a_loop_of_symlinks_is_refused(desk, name):
    (desk.directory / "loop").symlink_to("loop")

    assert_readable(desk.fails(name, **GOOD[name] | {"path": "loop"}))


@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_a_name_that_is_too_long_is_refused(desk, name):
    assert "too long" in desk.fails(name, **GOOD[name] | {"path": f"{'x' * 300}/{'x' * 300}"})


@pytest.mark.parametrize("name", ["read", "write", "edit"])
@pytest.mark.parametrize("path", ["sub", "."])
def test_a_folder_is_not_taken_for_a_file(desk, name, path):
    assert "a folder, not a file" in desk.fails(name, **GOOD[name] | {"path": path})


@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_a_file_is_not_taken_for_a_folder(desk, name):
    message = desk.fails(name, **GOOD[name] | {"path": "a.txt/inner"})

    assert "not a folder" in message


@pytest.mark.parametrize("name", TAKE_A_FILE)
@pytest.mark.parametrize("kind", ["FIFO", "socket"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(desk, name, kind, monkeypatch):
    # Given
    monkeypatch.chdir(desk.directory)
    if kind == "FIFO":
        os.mkfifo("odd")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("odd")

    # When
    message = desk.fails(name, **GOOD[name] | {"path": "odd"})

    # Then
    assert message == f"odd is a {kind}, not a file."
    assert not (desk.directory / "odd").is_file()


SWAPPER = """
import os, sys
print("ready", flush=True)
while os.getppid() == int(sys.argv[1]):
    os.rename("sub", "kept"); os.rename("link", "sub")
    os.rename("sub", "link"); os.rename("kept", "sub")
"""


@pytest.mark.once
@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_a_symlink_put_in_place_during_the_call_leads_nowhere(desk, tmp_path, name):
    # Given a folder and a symlink to the outside that another process swaps all the time
    outside = tmp_path / "work-outside"
    (outside / "b.txt").write_text(f"{SECRET}\n")
    (desk.directory / "link").symlink_to(outside)
    path = "sub" if name in TAKE_A_FOLDER else "sub/b.txt"
    command = [sys.executable, "-c", SWAPPER, str(os.getpid())]
    with subprocess.Popen(command, cwd=desk.directory, stdout=subprocess.PIPE) as swapper:
        try:
            swapper.stdout.readline()

            # When
            outcomes = []
            deadline = time.monotonic() + 0.7
            while time.monotonic() < deadline:
                outcomes.append(desk.call(name, **GOOD[name] | {"path": path}))
        finally:
            swapper.kill()

    # Then nothing of the outside was read or written, and no call broke
    assert not any(SECRET in outcome.content or "fault" in outcome.content for outcome in outcomes)
    assert (outside / "b.txt").read_text() == f"{SECRET}\n"
    assert sorted(path.name for path in outside.iterdir()) == ["a.txt", "b.txt"]
    if name != "edit":  # finds its text only once
        assert any(not outcome.is_error for outcome in outcomes)


# --- what is closed inside the directory ---


@pytest.fixture
def closed(desk):
    """The server's data below the session's directory: a folder whose name is special in patterns, and one file."""
    desk.put("home/da[t]a/store/b.txt", f"{SECRET}\n")
    desk.put("home/note.txt", "apple\n")
    desk.put("store.sqlite3", f"{SECRET}\n")
    desk.private = (desk.directory / "home" / "da[t]a", desk.directory / "store.sqlite3")
    return desk


@pytest.mark.parametrize("name", TAKE_A_PATH)
@pytest.mark.parametrize(
    "path",
    ["home/da[t]a", "home/da[t]a/store", "home/da[t]a/store/b.txt", "home/da[t]a/store/new.txt", "home/../home/da[t]a",
     "store.sqlite3", "link/b.txt", "link"],
)  # fmt: skip
def test_what_is_the_servers_own_is_closed_to_tools(closed, name, path):
    (closed.directory / "link").symlink_to("home/da[t]a/store")

    message = closed.fails(name, **GOOD[name] | {"path": path})

    assert "belongs to the server itself" in message
    assert SECRET not in message
    assert not (closed.directory / "home/da[t]a/store/new.txt").exists()


@pytest.mark.parametrize("start", [None, "home"])
@pytest.mark.parametrize("name", ["grep", "glob", "list"])
def test_searches_from_above_leave_out_what_is_the_servers_own(closed, name, start):
    given = {"grep": {"pattern": "apple"}, "glob": {"pattern": "**/*"}, "list": {}}[name]

    content = closed.works(name, **given | ({"path": start} if start else {}))

    assert SECRET not in content
    assert "da[t]a" not in content
    assert "store" not in content
    assert ("note.txt" if start or name != "list" else "home/") in content


@pytest.mark.parametrize(
    "path", ["/proc/self/environ", "proc/self/environ", "/proc/self/root/proc/self/environ", "/proc"]
)
@pytest.mark.parametrize("name", TAKE_A_PATH)
def test_the_servers_memory_is_closed_even_where_the_directory_is_the_root(tmp_path, name, path):
    desk = Desk(Path("/"))
    desk.private = (Path("/proc"),)

    assert "belongs to the server itself" in desk.fails(name, **GOOD[name] | {"path": path})


@pytest.mark.parametrize("name", ["list", "glob", "grep", "read", "bash"])
def test_names_and_texts_that_are_not_utf8_come_back_as_valid_text(desk, name):
    desk.put(os.fsdecode(b"caf\xe9\n\x1b.txt"), b"apple \xff\n")
    desk.put("latin.txt", b"caf\xe9 apple\n")
    calls = {
        "list": {},
        "glob": {"pattern": "*.txt"},
        "grep": {"pattern": "apple"},
        "read": {"path": "latin.txt"},
        "bash": {"command": "cat latin.txt; ls"},
    }

    content = desk.works(name, **calls[name])

    content.encode()
    assert "caf\N{REPLACEMENT CHARACTER}" in content


# --- the toolbox ---


class Broken:
    name = "broken"
    description = "Fails."

    def __init__(self, error):
        self.parameters = {"type": "object"}
        self._error = error

    def run(self, params, context):
        raise self._error


def test_the_toolbox_names_its_tools_in_their_order(desk):
    assert desk.toolbox.names == ("bash", "read", "write", "edit", "grep", "glob", "list")
    assert [tool.name for tool in desk.toolbox.specs(["edit", "read"])] == ["edit", "read"]


def test_an_unknown_tool_is_answered_with_those_there_are(desk):
    message = desk.fails("shell", command="ls")

    assert "shell" in message
    assert "bash, read, write" in message
    with pytest.raises(ToolError, match="no tool shell"):
        desk.toolbox.specs(["read", "shell"])


def test_a_fault_in_a_tool_is_logged_and_told_in_short(desk, caplog):
    outcome = Toolbox([Broken(ZeroDivisionError("key sk-123"))]).run("broken", {}, desk.context())

    assert outcome.is_error
    assert outcome.content == "The tool broken failed by a fault of its own (ZeroDivisionError)."
    assert "key sk-123" in caplog.text


def test_the_systems_refusal_is_told_without_paths_of_the_host(desk):
    def told(error):
        outcome = Toolbox([Broken(error)]).run("broken", {}, desk.context())
        assert outcome.is_error
        return outcome.content

    assert told(PermissionError(13, "Permission denied", str(desk.directory / "a/b"))) == "a/b: Permission denied."
    assert told(PermissionError(13, "Permission denied", "/srv/keys")) == "Permission denied."
    assert told(OSError(5, "Input/output error", 7)) == "Input/output error."
    assert told(OSError("odd")) == "OSError."


def test_an_abort_goes_through_the_toolbox(desk):
    with pytest.raises(Cancelled):
        Toolbox([Broken(Cancelled("aborted"))]).run("broken", {}, desk.context())


def test_output_that_cannot_be_stored_is_no_fault_of_the_tools(desk, caplog):
    with pytest.raises(StaleAttempt):
        Toolbox([Broken(StaleAttempt("another has it"))]).run("broken", {}, desk.context())

    assert caplog.text == ""
