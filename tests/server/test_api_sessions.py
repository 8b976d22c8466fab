"""Sessions over HTTP (API section 2)."""

import subprocess
import threading
from pathlib import Path

import pytest

from opencode.provider.port import Text, ToolCall, Usage
from opencode.provider.scripted import Wait
from tests.server.talk import TIME, create, follow, refused, say, stored, turn
from tests.sse import check_log


@pytest.fixture(scope="module")
def lasting_app(make_lasting_app):
    """An app that the tests share, of which each makes sessions of its own."""
    return make_lasting_app()


@pytest.fixture
def lasting(lasting_app):
    return lasting_app.test_client()


@pytest.mark.parametrize("body", [None, "", "{}", " \n"])
def test_a_session_is_created_with_the_defaults_from_no_body_or_an_empty_one(lasting, make_lasting_app, body):
    headers = {"Content-Type": "application/json"} if body is not None else {}

    response = lasting.post("/api/session", data=body, headers=headers)

    assert response.status_code == 200
    answer = response.json
    assert list(answer) == ["session_id", "created_at", "model", "resolved_model", "tools", "directory", "title"]
    assert answer["session_id"].startswith("ses_")
    assert TIME.fullmatch(answer["created_at"])
    assert answer["model"] is None
    assert answer["resolved_model"] == "scripted/script"
    assert sorted(answer["tools"]) == ["bash", "edit", "read", "write"]
    assert answer["directory"] == str(make_lasting_app.work)
    assert answer["title"] == ""


def test_a_session_keeps_everything_that_it_was_given(client, make_app):
    (make_app.work / "sub").mkdir()
    body = {
        "model": "openai/anything-at-all",
        "tools": ["read", "grep", "glob", "list"],
        "directory": "sub",
        "title": "Ünïcode 標題 🎈",
        "system": "Be brief.",
        "permission": {"read": "ask", "grep": "deny"},
    }

    created = client.post("/api/session", json=body).json
    shown = client.get(f"/api/session/{created['session_id']}").json

    assert created["model"] == created["resolved_model"] == "openai/anything-at-all"
    for answer in (created, shown):
        assert answer["tools"] == body["tools"]
        assert answer["directory"] == str(make_app.work / "sub")
        assert answer["title"] == body["title"]
    assert shown["system"] == "Be brief."
    assert shown["permission"] == body["permission"]


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("claude-3-sonnet", "anthropic"),
        ("claude-never-heard-of", "anthropic"),
        ("gpt-4", "openai"),
        ("gpt-unheard-of", "openai"),
        ("openai/whatever", "openai"),
        ("script", "scripted"),
    ],
)
def test_a_model_name_is_kept_as_it_was_given_and_resolved_beside_it(client, name, provider):
    created = client.post("/api/session", json={"model": name}).json

    assert created["model"] == name
    assert created["resolved_model"].split("/")[0] == provider
    assert client.get(f"/api/session/{created['session_id']}").json["model"] == name
    assert client.get("/api/sessions").json["sessions"][0]["model"] == name


def test_the_settings_own_aliases_are_model_names(make_app):
    client = make_app(model_aliases={"mine": "openai/gpt-6"}).test_client()

    created = client.post("/api/session", json={"model": "mine"}).json

    assert (created["model"], created["resolved_model"]) == ("mine", "openai/gpt-6")


def test_a_repeated_tool_counts_once_and_no_tools_at_all_are_a_choice(lasting):
    assert lasting.post("/api/session", json={"tools": ["read", "read", "bash"]}).json["tools"] == ["read", "bash"]
    assert lasting.post("/api/session", json={"tools": []}).json["tools"] == []


@pytest.mark.parametrize("model", ["no-such-model", "nowhere/model", "anthropic/", "/x", " "])
def test_an_unknown_model_is_refused_with_what_is_usable(lasting, lasting_app, model):
    before = stored(lasting_app)

    error = refused(lasting.post("/api/session", json={"model": model}), 400, "INVALID_REQUEST", "scripted/script")

    assert error["details"][0]["field"] == "model"
    assert stored(lasting_app) == before


def test_an_unknown_tool_is_refused_by_name_with_those_that_there_are(client, app):
    before = stored(app)

    error = refused(
        client.post("/api/session", json={"tools": ["read", "teleport"]}), 400, "INVALID_REQUEST", "teleport", "bash"
    )

    assert error["details"][0]["field"].startswith("tools")
    assert stored(app) == before


@pytest.mark.parametrize(
    "directory",
    [
        "/etc",
        "/",
        "..",
        "../",
        "sub/../..",
        "/work/../etc",
        "~",
        "outward",
        "outward/etc",
        "missing",
        "file.txt",
        "a\0b",
    ],
)
def test_a_directory_outside_the_roots_or_that_is_none_is_refused(client, app, make_app, directory):
    (make_app.work / "sub").mkdir()
    (make_app.work / "file.txt").write_text("no directory")
    (make_app.work / "outward").symlink_to("/")
    before = stored(app)

    error = refused(client.post("/api/session", json={"directory": directory}), 400, "INVALID_REQUEST", "directory")

    assert error["details"][0]["field"] == "directory"
    assert "OPENCODE_PROJECT_ROOTS" in error["message"]
    assert stored(app) == before


def test_the_refusal_is_the_same_whether_or_not_something_is_there_outside_the_roots(lasting):
    there = refused(lasting.post("/api/session", json={"directory": "/etc"}), 400, "INVALID_REQUEST")
    missing = refused(lasting.post("/api/session", json={"directory": "/etd"}), 400, "INVALID_REQUEST")
    a_file = refused(lasting.post("/api/session", json={"directory": "/etc/passwd"}), 400, "INVALID_REQUEST")

    assert there["message"] == missing["message"].replace("/etd", "/etc") == a_file["message"].replace("/passwd", "")


def test_a_symlink_that_stays_inside_and_further_roots_are_fine(make_app, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (make_app.work / "sub").mkdir()
    (make_app.work / "inward").symlink_to(make_app.work / "sub")
    client = make_app(project_roots=(str(make_app.work), str(other))).test_client()

    assert client.post("/api/session", json={"directory": "inward"}).json["directory"] == str(make_app.work / "sub")
    assert client.post("/api/session", json={"directory": str(other)}).json["directory"] == str(other)


def test_the_default_directory_is_the_first_root_where_the_current_one_lies_in_none(make_app, tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir()
    client = make_app(project_roots=(str(root),)).test_client()

    assert client.post("/api/session").json["directory"] == str(root)
    refused(client.post("/api/session", json={"directory": str(make_app.work)}), 400, "INVALID_REQUEST")


def test_a_session_may_only_be_stricter_than_the_settings(make_app):
    client = make_app(permission={"bash": "ask", "write": "deny"}).test_client()

    assert client.post("/api/session", json={"permission": {"bash": "deny", "read": "ask"}}).status_code == 200
    for looser in ({"bash": "allow"}, {"write": "ask"}, {"write": "allow"}):
        refused(client.post("/api/session", json={"permission": looser}), 400, "INVALID_REQUEST", *looser)
    refused(client.post("/api/session", json={"permission": {"teleport": "ask"}}), 400, "INVALID_REQUEST", "teleport")
    session_id = create(client)
    refused(
        client.patch(f"/api/session/{session_id}", json={"permission": {"bash": "allow"}}),
        400,
        "INVALID_REQUEST",
        "bash",
    )


# The list


@pytest.mark.parametrize("address", ["/api/sessions", "/api/session"])
def test_the_list_shows_sessions_newest_first_under_both_paths(client, address):
    first, second = create(client, title="one", model="claude-3-sonnet"), create(client, title="two")
    turn(client, first)

    answer = client.get(address).json

    assert [own["id"] for own in answer["sessions"]] == [second, first]
    for own in answer["sessions"]:
        assert list(own) == ["id", "created_at", "last_message", "model", "message_count", "title", "status"]
        assert TIME.fullmatch(own["created_at"])
        assert own["status"] == "idle"
    idle, used = answer["sessions"]
    assert (idle["last_message"], idle["message_count"], idle["model"], idle["title"]) == (None, 0, None, "two")
    assert TIME.fullmatch(used["last_message"])
    assert (used["message_count"], used["model"], used["title"]) == (2, "claude-3-sonnet", "one")
    assert answer.get("next_cursor") is None


def test_the_list_of_a_new_server_is_empty(client):
    assert client.get("/api/sessions").json["sessions"] == []


def test_pages_hold_every_session_once_though_new_ones_come_in_between(client):
    created = [create(client) for _ in range(7)]
    seen, cursor = [], ""
    for _page in range(10):
        answer = client.get(f"/api/sessions?limit=3{cursor}").json
        assert 0 < len(answer["sessions"]) <= 3
        seen += [own["id"] for own in answer["sessions"]]
        create(client)
        if answer.get("next_cursor") is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"

    assert seen == created[::-1]


def test_a_page_that_is_just_full_has_no_next_one(client):
    for _ in range(3):
        create(client)

    assert client.get("/api/sessions?limit=3").json.get("next_cursor") is None
    assert client.get("/api/sessions?limit=2").json["next_cursor"]


def test_the_search_looks_in_titles_and_messages_without_regard_to_case(make_app):
    client = make_app([[Text("The haystack says so."), Usage(1, 1)]]).test_client()
    titled = create(client, title="Fix the PARSER")
    talked = create(client, title="talk")
    percent = create(client, title="100% done_now")
    turn(client, talked, "where is the Needle?")

    def found(query: str) -> list[str]:
        return [own["id"] for own in client.get("/api/sessions", query_string={"q": query}).json["sessions"]]

    assert found("parser") == [titled]
    assert found("nEEdle") == found("HAYSTACK") == [talked]
    assert found("%") == found("_") == [percent]
    assert found("nowhere to be found") == []
    assert found("") == [percent, talked, titled]
    assert client.get("/api/sessions?q=o&limit=1").json["next_cursor"] == percent or found("o")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=-1", "limit=many", "limit=1.5", "limit="])
def test_a_limit_beyond_its_bounds_is_refused_by_name(lasting, query):
    error = refused(lasting.get(f"/api/sessions?{query}"), 400, "INVALID_REQUEST", "limit")
    assert error["details"][0]["field"] == "limit"


# One session


def test_a_session_shows_what_it_and_its_owner_have_spent_and_may_spend(make_app):
    ceilings = {"budget_tokens": 100, "budget_seconds": 60, "session_budget_tokens": 20, "session_budget_seconds": 30.5}
    client = make_app(**ceilings).test_client()
    first, second = create(client), create(client)
    for session_id in (first, second, second):
        turn(client, session_id)
    assert turn(client, second)[1].data["code"] == "BUDGET_SPENT"
    client.delete(f"/api/session/{first}")

    shown = client.get(f"/api/session/{second}").json["budget"]
    assert (shown["session"]["tokens"], shown["owner"]["tokens"]) == (20, 30)
    assert (shown["session"]["max_tokens"], shown["owner"]["max_tokens"]) == (20, 100)
    assert (shown["session"]["max_seconds"], shown["owner"]["max_seconds"]) == (30.5, 60)
    assert 0 <= shown["session"]["seconds"] <= shown["owner"]["seconds"]


def test_a_session_shows_its_messages_usage_and_the_number_of_the_event_that_they_contain(client, make_app):
    session_id = create(client)
    events = turn(client, session_id, "hello there")

    shown = client.get(f"/api/session/{session_id}").json

    assert shown["id"] == session_id
    assert shown["title"] == "hello there"
    assert shown["directory"] == str(make_app.work)
    assert shown["status"] == "idle"
    assert shown["message_count"] == 2
    assert shown["usage"] == {"input": 7, "output": 3, "cached": 2, "turn_ms": events[-1].data["duration"]}
    spent = {"tokens": 10, "max_tokens": None, "seconds": events[-1].data["duration"] / 1000, "max_seconds": None}
    assert shown["budget"] == {"session": spent, "owner": spent}
    assert shown["seq"] == events[-1].seq
    user, answer = shown["messages"]
    for message in (user, answer):
        assert {"id", "role", "content", "timestamp", "parts", "tokens", "status"} <= set(message)
        assert message["id"].startswith("msg_")
        assert TIME.fullmatch(message["timestamp"])
        assert message["turn_id"] == events[0].data["turn_id"]
    assert (user["role"], user["content"], user["status"]) == ("user", "hello there", "completed")
    assert (answer["role"], answer["content"], answer["status"]) == ("assistant", "Hello, world.", "completed")
    assert user["id"] == events[0].data["message_id"]
    assert answer["tokens"] == 10
    assert [part["type"] for part in answer["parts"]] == ["text"]


def test_messages_page_back_from_the_end(lasting):
    session_id = create(lasting)
    for number in range(3):
        turn(lasting, session_id, f"question {number}")
    everything = lasting.get(f"/api/session/{session_id}").json["messages"]
    assert [message["content"] for message in everything[::2]] == ["question 0", "question 1", "question 2"]

    pages, before = [], ""
    for _page in range(10):
        answer = lasting.get(f"/api/session/{session_id}?limit=4{before}").json
        assert answer["message_count"] == 6
        pages.insert(0, answer["messages"])
        if not answer["has_older"]:
            break
        before = f"&before={answer['messages'][0]['id']}"

    assert [len(page) for page in pages] == [2, 4]
    assert [message for page in pages for message in page] == everything


def test_what_a_session_shows_and_what_follows_its_seq_are_the_whole_answer(make_app):
    going = threading.Event()
    call = ToolCall("call_1", "bash", {"command": "echo in between"})
    app = make_app([[Text("one "), call, Usage(1, 1)], [Text("two "), Wait(going), Text("three"), Usage(1, 1)]])
    client = app.test_client()
    session_id = create(client)
    opened = say(client, session_id)
    seen = opened.until("tool_result")
    seen += opened.until("text")

    # While the turn runs,
    shown = client.get(f"/api/session/{session_id}").json
    following = follow(client, session_id, f"?after={shown['seq']}")
    going.set()
    followed = following.until("done")
    seen += opened.rest()

    # the messages hold the log up to `seq`, and nothing beyond it.
    assert shown["status"] == "running"
    assert shown["messages"][1]["status"] == "running"
    check_log(followed, after=shown["seq"])
    pieces = [event.data["content"] for event in seen if event.name == "text"]
    later = [event.data["content"] for event in followed if event.name == "text"]
    assert later == pieces[-len(later) :]
    held = "".join(shown["messages"][1]["content"].split())
    assert held + "".join("".join(later).split()) == "onetwothree"
    final = client.get(f"/api/session/{session_id}").json
    assert "".join(final["messages"][1]["content"].split()) == "onetwothree"
    assert final["seq"] == seen[-1].seq
    assert [part["type"] for part in final["messages"][1]["parts"]] == ["text", "tool", "text"]
    assert [part["status"] for part in final["messages"][1]["parts"]] == ["completed"] * 3


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x"])
def test_a_wrong_page_of_messages_is_refused_by_name(lasting, query):
    refused(lasting.get(f"/api/session/{create(lasting)}?{query}"), 400, "INVALID_REQUEST", "limit")


# Changes


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"title": "new title"}, {"title": "new title"}),
        ({"title": ""}, {"title": ""}),
        ({"model": "gpt-4"}, {"model": "gpt-4"}),
        ({"tools": ["list"]}, {"tools": ["list"]}),
        ({"permission": {"bash": "deny"}}, {"permission": {"bash": "deny"}}),
        ({"title": "both", "tools": []}, {"title": "both", "tools": []}),
    ],
)
def test_each_field_can_be_changed_by_itself_and_followers_are_told(lasting, change, shown):
    session_id = create(lasting, title="old title", model="claude-3-sonnet")
    before = lasting.get(f"/api/session/{session_id}").json
    following = follow(lasting, session_id)

    answer = lasting.patch(f"/api/session/{session_id}", json=change)
    event = next(following)

    assert answer.status_code == 200
    after = lasting.get(f"/api/session/{session_id}").json
    assert {name: after[name] for name in shown} == shown
    same = set(before) - set(shown) - {"resolved_model", "seq"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert (event.name, event.seq) == ("session_updated", 1)
    assert event.data["session_id"] == session_id
    assert event.data["changed"].items() >= shown.items()
    assert after["seq"] == 1


def test_a_model_of_null_goes_back_to_the_default(lasting):
    session_id = create(lasting, model="claude-3-sonnet")

    answer = lasting.patch(f"/api/session/{session_id}", json={"model": None}).json

    assert (answer["model"], answer["resolved_model"]) == (None, "scripted/script")


def test_a_patch_of_nothing_changes_nothing_and_tells_nobody(client, app):
    session_id = create(client)
    before = stored(app)

    assert client.patch(f"/api/session/{session_id}", json={}).status_code == 200

    assert stored(app) == before


@pytest.mark.parametrize(
    "change",
    [
        {"title": None},
        {"tools": None},
        {"permission": None},
        {"tools": ["teleport"]},
        {"model": "no-such-model"},
        {"permission": {"bash": "maybe"}},
        {"title": "x" * 201},
        {"directory": "/tmp"},
        {"title": "fine", "tools": "bash"},
    ],
)
def test_a_wrong_change_is_refused_by_name_and_changes_nothing(lasting, lasting_app, change):
    session_id = create(lasting, title="old")
    before = stored(lasting_app)

    error = refused(lasting.patch(f"/api/session/{session_id}", json=change), 400, "INVALID_REQUEST")

    assert error["details"][0]["field"].split(".")[0] == list(change)[-1]
    assert stored(lasting_app) == before


def test_tools_that_were_taken_back_are_no_longer_offered_in_the_next_turn(make_app):
    app = make_app([[Text("ok"), Usage(1, 1)]])
    client = app.test_client()
    session_id = create(client, tools=["read", "bash"])
    client.patch(f"/api/session/{session_id}", json={"tools": ["read"]})

    turn(client, session_id)

    scripted = app.extensions["opencode"].models.provider("scripted")
    assert [tool.name for tool in scripted.requests[-1].tools] == ["read"]


# Deletion


def test_a_deleted_session_is_gone_from_everywhere(client):
    session_id, kept = create(client), create(client)
    turn(client, session_id)

    assert client.delete(f"/api/session/{session_id}").json == {"success": True}

    for gone in (
        client.get(f"/api/session/{session_id}"),
        client.patch(f"/api/session/{session_id}", json={"title": "x"}),
        client.delete(f"/api/session/{session_id}"),
        client.get(f"/api/session/{session_id}/diff"),
        client.post(f"/api/session/{session_id}/message", json={"content": "x"}),
        client.get(f"/api/session/{session_id}/message"),
        client.post(f"/api/session/{session_id}/abort"),
    ):
        refused(gone, 404, "SESSION_NOT_FOUND", session_id)
    assert [own["id"] for own in client.get("/api/sessions").json["sessions"]] == [kept]


def test_nothing_of_a_deleted_session_stays_in_the_store_but_what_its_owner_has_spent(client, app):
    turn(client, create(client))
    before = stored(app)
    session_id = create(client, title="secret plans")
    turn(client, session_id, "secret question")

    client.delete(f"/api/session/{session_id}")

    changed = set(stored(app).splitlines()) ^ set(before.splitlines())
    assert {line.partition(" VALUES")[0] for line in changed} == {'INSERT INTO "spending"'}


# What tools changed


def test_the_diff_shows_what_tools_changed_and_nothing_else(make_app):
    (make_app.work / "old.txt").write_text("first\nsecond\n")
    (make_app.work / "other.txt").write_text("untouched\n")
    write = ToolCall("call_1", "write", {"path": "new.txt", "content": "fresh\n"})
    edit = ToolCall("call_2", "edit", {"path": "old.txt", "old_string": "second", "new_string": "2nd"})
    client = make_app([[write, edit, Usage(1, 1)], [Text("Done."), Usage(1, 1)]]).test_client()
    session_id = create(client)
    assert client.get(f"/api/session/{session_id}/diff").json == {"diff": ""}

    turn(client, session_id)
    diff = client.get(f"/api/session/{session_id}/diff").json["diff"]

    # It undoes the turn, as far as `patch` and git can tell.
    assert "untouched" not in diff
    assert "-second\n+2nd\n" in diff
    assert "+fresh\n" in diff
    undone = subprocess.run(
        ["git", "apply", "-R", "-p1", "-"], cwd=make_app.work, input=diff, text=True, capture_output=True, check=False
    )
    assert undone.returncode == 0, undone.stderr
    assert (make_app.work / "old.txt").read_text() == "first\nsecond\n"
    assert not (make_app.work / "new.txt").exists()


# Models and projects


def test_models_are_listed_with_provider_key_and_what_is_missing(client):
    answer = client.get("/api/models").json

    assert answer["default"] == "scripted/script"
    assert answer["reason"]
    by_id = {model["id"]: model for model in answer["models"]}
    assert len(by_id) == len(answer["models"])
    assert by_id["scripted/script"] == {
        "id": "scripted/script", "provider": "scripted", "has_key": True, "default": True, "missing": None,
    }  # fmt: skip
    keyless = [model for model in answer["models"] if model["provider"] in {"anthropic", "openai"}]
    assert all(not model["has_key"] and "_API_KEY" in model["missing"] for model in keyless)
    assert [model["id"] for model in answer["models"] if model["default"]] == ["scripted/script"]


def test_the_current_project_is_there_before_and_after_it_was_used(client, make_app):
    unused = client.get("/api/project/current").json
    assert set(unused) == {"id", "directory", "vcs", "created_at"}
    assert (unused["directory"], unused["vcs"], unused["created_at"]) == (str(make_app.work), None, None)
    assert client.get("/api/project").json == {"projects": []}

    created = client.post("/api/session").json

    used = client.get("/api/project/current").json
    assert used == {**unused, "created_at": created["created_at"]}
    assert client.get("/api/project").json == {"projects": [used]}


def test_a_project_says_its_version_control_and_branch(client, make_app):
    subprocess.run(["git", "init", "-q", "-b", "feature/x", str(make_app.work)], check=True)

    assert client.get("/api/project/current").json["vcs"] == {"type": "git", "branch": "feature/x"}


def test_each_directory_is_one_project(client, make_app):
    for name in ("a", "b"):
        (make_app.work / name).mkdir()
        create(client, directory=name)
    create(client, directory="a")

    projects = client.get("/api/project").json["projects"]

    assert [own["directory"] for own in projects] == [str(make_app.work / "a"), str(make_app.work / "b")]
    assert len({own["id"] for own in projects}) == 2
