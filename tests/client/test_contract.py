"""The client's objects have what the server sends: the same fields, none forgotten."""

import dataclasses
import subprocess
import sys

import msgspec
import pytest

from opencode.client import answers
from opencode.client import events as seen
from opencode.server import schemas
from opencode.session import events as sent

ANSWERS = {
    answers.Budget: schemas.Budget,
    answers.Budgets: schemas.Budgets,
    answers.Usage: schemas.Usage,
    answers.Session: schemas.SessionCreated,
    answers.SessionSummary: schemas.SessionSummary,
    answers.SessionPage: schemas.SessionList,
    answers.Message: schemas.Message,
    answers.AskedPermission: schemas.AskedPermission,
    answers.SessionDetail: schemas.SessionDetail,
    answers.TurnAnswer: schemas.TurnAnswer,
    answers.TurnAccepted: schemas.TurnAccepted,
    answers.Diff: schemas.Diff,
    answers.Model: schemas.Model,
    answers.ModelList: schemas.ModelList,
    answers.Health: schemas.Health,
}


@pytest.mark.parametrize(("own", "schema"), ANSWERS.items(), ids=lambda kind: kind.__name__)
def test_an_answer_has_the_schemas_fields(own, schema):
    assert set(own.__struct_fields__) == set(schema.model_fields)


def test_every_event_is_known_with_its_fields():
    given = {"name", "seq", "data"}
    known = {name: set(kind.__struct_fields__) - given for name, kind in seen.EVENTS.items()}

    assert known == {
        **{event.name: {field.name for field in dataclasses.fields(event)} for event in sent.EVENTS},
        "session_deleted": {"session_id"},
    }


def test_what_a_newer_server_adds_is_kept_and_harms_nothing():
    known = seen.parse_event("text", 7, b'{"turn_id": "trn_1", "content": "x", "mood": "good"}')
    unknown = seen.parse_event("sigh", 8, b'{"depth": 3}')

    assert (known.content, known.data["mood"]) == ("x", "good")
    assert unknown == seen.Event(name="sigh", seq=8, data={"depth": 3})


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"turn_id": "t"}', b'{"turn_id": "t", "content": 3}', b"\xff"])
def test_an_event_that_is_none_is_a_fault_of_the_server(data):
    with pytest.raises(seen.ProtocolError, match="event text 3 cannot be read"):
        seen.parse_event("text", 3, data)


def test_events_are_immutable():
    event = seen.parse_event("text", 7, b'{"turn_id": "trn_1", "content": "x"}')

    with pytest.raises(AttributeError):
        event.content = "y"
    assert msgspec.structs.replace(event, content="y").content == "y"


def test_the_import_is_light():
    """No server in it, and no SDK."""
    code = "import sys, opencode.client; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "httpx2" in loaded
    for name in ("flask", "werkzeug", "gevent", "pydantic", "sqlalchemy", "anthropic", "openai", "rich", "click"):
        assert name not in loaded
