"""Ceilings on what sessions and owners spend: they end a turn visibly, and neither a restart nor a deletion helps."""

import threading

import pytest

from opencode.errors import SessionNotFound
from opencode.provider.port import Text, Usage
from opencode.provider.scripted import Wait
from opencode.records import Spending
from tests.session.story import OWNER, assert_whole_turn, call, eventually, names, of

SPEND = [call("list"), Usage(60, 40)]
ANSWER = [Text("done"), Usage(30, 20)]


def spent(story, session) -> tuple[Spending, Spending]:
    return story.sessions.budget.spent(session)


def refused(events, *words: str) -> None:
    assert names(events) == ["turn_start", "error", "done"]
    assert_whole_turn(events)
    assert events[-1].data["status"] == "failed"
    assert events[-1].data["tokens"] == 0
    error = of(events, "error")[0]
    assert error["code"] == "BUDGET_SPENT"
    for word in words:
        assert word in error["message"]


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"budget_tokens": 150}, "OPENCODE_BUDGET_TOKENS"),
        ({"session_budget_tokens": 150}, "OPENCODE_SESSION_BUDGET_TOKENS"),
    ],
)
def test_a_turn_is_stopped_between_steps_and_the_next_one_before_its_first(play, settings, setting):
    story = play([SPEND] * 9, **settings)
    session = story.session(tools=("list",))
    events = story.tell(session)

    assert names(events) == ["turn_start", *["step", "tool_call", "tool_result"] * 2, "error", "done"]
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "BUDGET_SPENT"
    assert setting in of(events, "error")[0]["message"]
    assert "200 of 150 tokens" in of(events, "error")[0]["message"]
    assert events[-1].data["tokens"] == 200
    refused(story.tell(session), setting)
    assert len(story.provider.requests) == 2


def test_an_answer_that_is_there_is_given_even_where_it_spent_the_rest(play):
    story = play([ANSWER] * 9, budget_tokens=50)

    assert story.tell(story.session())[-1].data["status"] == "completed"
    refused(story.tell(story.session()), f"owner {OWNER}")


def test_a_session_that_has_spent_its_own_leaves_the_others_theirs(play):
    story = play([ANSWER] * 9, session_budget_tokens=50)
    first, second = story.session(), story.session()

    assert story.tell(first)[-1].data["status"] == "completed"
    refused(story.tell(first), "this session")
    assert story.tell(second)[-1].data["status"] == "completed"
    assert spent(story, first) == (Spending(50, spent(story, first)[0].turn_ms), spent(story, second)[1])
    assert spent(story, first)[1].tokens == 100


def test_deleting_a_session_gives_its_owner_nothing_back(play):
    story = play([ANSWER] * 9, budget_tokens=50)
    session = story.session()
    story.tell(session)
    story.sessions.delete(OWNER, session.id)

    with pytest.raises(SessionNotFound):
        story.sessions.store.get(OWNER, session.id)
    refused(story.tell(story.session()), "50 of 50 tokens")


def test_a_session_that_is_deleted_while_its_turn_runs_has_spent_what_it_has(play):
    story = play([SPEND, [Wait(threading.Event())]])
    session, other = story.session(tools=("list",)), story.session()
    turn = story.send(session)
    story.until(turn, "step", nth=2)
    story.sessions.delete(OWNER, session.id)

    assert spent(story, other)[1].tokens == 100


def test_a_restart_gives_nothing_back_not_even_of_a_turn_that_had_not_ended(play):
    story = play([SPEND, [Wait(threading.Event())]])
    session = story.session(tools=("list",))
    story.until(story.send(session), "step", nth=2)
    story.stop()

    story = play([ANSWER] * 9, budget_tokens=100)
    eventually(lambda: story.sessions.store.get(OWNER, session.id).status == "idle")
    assert story.sessions.snapshot(OWNER, session.id, limit=9, before=None)[1][-1].status == "failed"
    assert spent(story, session)[1].tokens == 100
    refused(story.tell(story.session()), "100 of 100 tokens")


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"budget_seconds": 0.3}, "OPENCODE_BUDGET_SECONDS"),
        ({"session_budget_seconds": 0.3}, "OPENCODE_SESSION_BUDGET_SECONDS"),
    ],
)
def test_the_seconds_of_turns_are_a_budget_too(play, settings, setting):
    story = play([[call("bash", command="sleep 0.4"), Usage(1, 1)]] * 9, **settings)
    session = story.session()
    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "tool_call", "tool_result", "error", "done"]
    assert setting in of(events, "error")[0]["message"]
    assert events[-1].data["duration"] >= 400
    assert spent(story, session)[1].turn_ms == events[-1].data["duration"]
    refused(story.tell(session), setting)


def test_turns_at_the_same_time_see_what_the_others_have_spent(play):
    story = play([SPEND, [Wait(threading.Event())]], budget_tokens=150)
    first, second = story.session(tools=("list",)), story.session(tools=("list",))
    story.until(story.send(first), "step", nth=2)

    events = story.tell(second)
    assert names(events) == ["turn_start", "step", "tool_call", "tool_result", "error", "done"]
    assert "200 of 150 tokens" in of(events, "error")[0]["message"]
