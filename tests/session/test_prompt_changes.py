"""What typing makes of a screen: each change is a function of the screen as it is, and may be tried again."""

import json

from opencode.records import Prompt, Screen
from opencode.session.line_editor import LineEditor
from opencode.session.prompt_changes import cleared, edited, given_back, taken

TYPED = Screen(id="tui_1", owner="ada", name="default", prompt=Prompt("two", 3, ("one",), 1), session_id="ses_1")


def screen(prompt, session_id="ses_1"):
    return Screen(id="tui_1", owner="ada", name="default", prompt=prompt, session_id=session_id)


def told(events):
    """Names and data of events to show."""
    found = []
    for event in events:
        name, data = event.body.decode().strip().split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_edit_leaves_what_it_is_given_as_it_is_and_shows_the_prompt():
    change = edited(LineEditor.backspace)

    first, second = change(TYPED), change(TYPED)

    assert first == second
    assert first[0].prompt == Prompt("tw", 2, ("one",), 1)
    assert told(first[1]) == [("prompt", {"text": "tw", "cursor": 2})]


def test_clearing_an_empty_prompt_is_nothing():
    assert cleared(screen(Prompt())) == (screen(Prompt()), [])
    assert told(cleared(TYPED)[1]) == [("prompt", {"text": "", "cursor": 0})]


def test_a_prompt_that_is_taken_is_in_the_history():
    after, shown = taken(None)(TYPED)
    assert after.prompt == Prompt("", 0, ("one", "two"), 2)
    assert [(name, event.shows) for (name, _), event in zip(told(shown), shown, strict=True)] == [("prompt", None)]


def test_where_no_session_is_active_taking_makes_one_so():
    _after, shown = taken(("ses_new", 0))(screen(TYPED.prompt, None))
    assert [name for name, _ in told(shown)] == ["session_selected", "prompt"]
    assert shown[0].shows == ("ses_new", 0)
    # Another was faster: its session is the active one.
    _after, shown = taken(("ses_new", 0))(TYPED)
    assert [(name, event.shows) for (name, _), event in zip(told(shown), shown, strict=True)] == [("prompt", None)]


def test_where_there_is_nothing_to_send_or_nowhere_to_send_it_nothing_is_taken():
    for own, place in ((screen(Prompt(" \n")), None), (screen(Prompt(), None), ("ses_new", 0))):
        assert taken(place)(own) == (own, [])
    nowhere = screen(TYPED.prompt, None)
    assert taken(None)(nowhere) == (nowhere, [])


def test_what_was_taken_is_given_back_as_it_was():
    left = taken(None)(TYPED)[0]
    after, shown = given_back(TYPED.prompt, left=left.prompt)(left)
    assert after == TYPED
    assert told(shown) == [("prompt", {"text": "two", "cursor": 3})]


def test_who_has_sent_something_meanwhile_finds_it_in_the_prompt_too():
    left = taken(None)(TYPED)[0]
    later = screen(Prompt("", 0, ("one", "two", "three"), 3))
    after, shown = given_back(TYPED.prompt, left=left.prompt)(later)
    assert after.prompt == Prompt("two", 3, ("one", "two", "three"), 3)
    assert told(shown) == [("prompt", {"text": "two", "cursor": 3})]


def test_who_has_typed_meanwhile_keeps_that_and_is_told_what_was_not_sent():
    left = taken(None)(TYPED)[0]
    typing = edited(lambda editor: editor.insert("x"))(left)[0]
    after, shown = given_back(TYPED.prompt, left=left.prompt)(typing)
    assert after == typing
    ((name, data),) = told(shown)
    assert (name, data["level"], data["prompt"]) == ("toast", "error", "two")
    assert data["message"].endswith(": two")
