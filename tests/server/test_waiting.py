"""Who waits at the pump, together: what each was written is counted once, and comes out right for each."""

import itertools

import pytest

from opencode.server.tally import Tally
from opencode.server.waiting import Follower, Group, framed
from opencode.session.tail import Place, Tail

_FRAME = framed(b"x" * 100, events=2)


class Numbered:
    """A connection of which only the number is asked."""

    _numbers = itertools.count()

    def __init__(self):
        self._number = next(self._numbers)

    def fileno(self):
        return self._number


@pytest.fixture
def group():
    return Group(Tail(10))


def joined(group, seq, turn_id=None):
    place = Place(seq)
    group.tail.places.add(place)
    follower = Follower(Numbered(), group, place, turn_id, tally=Tally())
    group.join(follower)
    return follower


def found(follower):
    follower.group.leave(follower)
    return follower.place.seq, follower.events, follower.length


def test_each_is_counted_what_it_was_written_while_it_was_there(group):
    first = joined(group, 10)
    (cohort,) = group.cohorts
    cohort.advance(_FRAME)
    second = joined(group, 12)
    cohort.advance(_FRAME)

    assert group.cohorts == [cohort]
    assert found(first) == (14, 4, 200)
    assert found(second) == (14, 2, 100)
    assert group.cohorts == []
    assert group.tail.places == {first.place, second.place}


def test_those_who_come_to_stand_together_go_on_together(group):
    ahead, behind = joined(group, 12), joined(group, 10)
    other = joined(group, 10, "trn_1")
    for cohort in group.cohorts:
        if cohort.place.seq == 10:
            cohort.advance(_FRAME)

    group.merge()

    assert [len(cohort.members) for cohort in group.cohorts] == [2, 1]
    assert group.tail.places == {cohort.place for cohort in group.cohorts}
    for cohort in list(group.cohorts):
        cohort.advance(_FRAME)
    assert [found(own) for own in (ahead, behind, other)] == [(14, 2, 100), (14, 4, 200), (14, 4, 200)]


def test_no_more_are_written_to_in_one_go_than_take_a_few_milliseconds(group):
    followers = [joined(group, 10) for _ in range(1500)]
    sizes = [len(cohort.members) for cohort in group.cohorts]
    assert sum(sizes) == 1500
    assert max(sizes) < 600

    group.merge()

    assert [len(cohort.members) for cohort in group.cohorts] == sizes
    assert all(found(follower) == (10, 0, 0) for follower in followers)
    assert group.cohorts == []


def test_where_the_followers_stand_is_known_of_all_of_them(group):
    # Given a tail that begins after the event 9
    group.tail.extend(11, [b"id: 11\n\n"])
    assert group.tail.holds_the_rest()
    behind = joined(group, 5)

    assert not group.tail.holds_the_rest()
    (cohort,) = group.cohorts
    cohort.advance(framed(b"", events=6))
    assert group.tail.holds_the_rest()
    assert found(behind)[0] == 11
