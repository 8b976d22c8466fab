"""When commits wait for more: where they come thick and fast, and nobody waits for what is in them."""

import pytest

from opencode.changes import UpdateSession
from opencode.session.backlog import Backlog, Pace
from opencode.storage.port import Append


@pytest.fixture
def clock():
    """Seconds, which the test sets."""
    return [0.0]


def noted(clock, session_ids, *, every_s):
    pace = Pace(lambda: clock[0])
    for session_id in session_ids:
        pace.note(session_id)
        clock[0] += every_s
    return pace


MANY = [f"ses_{number}" for number in range(8)]


@pytest.mark.parametrize(
    ("session_ids", "every_s", "is_fast"),
    [
        pytest.param(MANY, 0.001, True, id="many turns, fast"),
        pytest.param(MANY, 0.01, False, id="many turns, slow"),
        pytest.param(MANY[:1] * 8, 0.0001, False, id="a turn alone, however fast"),
        pytest.param(MANY[:4] * 2, 0.001, False, id="a few turns"),
        pytest.param(MANY[:7], 0.001, False, id="not enough of them yet"),
    ],
)
def test_commits_come_thick_and_fast_where_many_turns_make_them(clock, session_ids, every_s, is_fast):
    assert noted(clock, session_ids, every_s=every_s).is_fast == is_fast


def test_a_pause_ends_it(clock):
    pace = noted(clock, MANY, every_s=0.001)
    assert pace.is_fast
    clock[0] += 0.1
    assert not pace.is_fast


def test_only_what_nobody_waits_for_waits_for_more(clock):
    waits = []
    queue = Backlog(Pace(lambda: clock[0]), waits.append)
    for session_id in MANY:
        queue.put(Append(session_id, [b"event: text"]))
        assert len(queue.take()) == 1
    assert waits == []

    queue.put(Append("ses_a", [b"event: text"]))
    assert len(queue.take()) == 1
    assert len(waits) == 1

    queue.put(Append("ses_a", [b"event: text"]))
    queue.put(Append("ses_b", [b"event: x"], (UpdateSession("ses_b", {"title": "New"}),)))
    assert len(queue.take()) == 2
    assert queue.take() == []
    assert len(waits) == 1
