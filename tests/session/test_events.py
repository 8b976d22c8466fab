from dataclasses import fields
from typing import get_type_hints

import pytest

from opencode import frames
from opencode.session.events import EVENTS, Event, Reasoning, Text, pieces

pytestmark = pytest.mark.once

AWKWARD = 'é 😀 \u2028 \u0085 \n\n data: "x"\r\n'


def filled(event: type[Event]) -> Event:
    """One of its kind, with text that could break a frame wherever text may stand."""
    hints = get_type_hints(event)
    values = {str: AWKWARD, int: 7, bool: True, dict[str, int]: {"input": 1}}
    return event(**{field.name: values.get(hints[field.name], {AWKWARD: [AWKWARD, None]}) for field in fields(event)})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_an_event_comes_back_from_its_frame_whatever_text_it_holds(event):
    given = filled(event)

    (frame,) = frames.numbered([given.body()], 41)

    assert frames.split(frame + frame) == [frame, frame]
    assert frames.parse(frame) == (41, event.name, {field.name: getattr(given, field.name) for field in fields(event)})


@pytest.mark.parametrize("kind", [Text, Reasoning])
@pytest.mark.parametrize("content", [AWKWARD, "", "\0\x1f\\"])
def test_a_piece_is_encoded_as_its_event_is(content, kind):
    assert pieces(kind, "trn_1")(content) == kind(turn_id="trn_1", content=content).body()


def test_no_two_events_share_a_name():
    assert len({event.name for event in EVENTS}) == len(EVENTS)
