"""What every store promises of shared screens: one order of all changes, bounds, and a place for those looked at."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from opencode.changes import AskPermission
from opencode.errors import InvalidRequest
from opencode.records import Prompt, ScreenEvent
from opencode.session.screen import prompt_of, selected, to_show
from opencode.storage.port import SCREENS, Append
from opencode.storage.sql import open_store
from tests.contracts.stored import OWNER, a_turn, start, stored_session, text

FAR = 4_000_000_000.0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.live)])
def store(request, tmp_path, empty_store):
    if request.param == "postgresql":
        store = open_store(request.getfixturevalue("postgres_url"), Path("/unused"))
    else:
        shutil.copytree(empty_store, tmp_path / "data")
        store = open_store(None, tmp_path / "data", patience_s=0)
    yield store
    store.close()


@pytest.fixture
def elsewhere(store):
    """As another process has the store, where several can have it."""
    if store.engine.dialect.name == "sqlite":
        yield store
        return
    other = open_store(store.engine.url.render_as_string(hide_password=False), Path("/unused"))
    yield other
    other.close()


def nothing(screen):
    return screen, []


def typing(letters):
    def add(screen):
        after = replace(screen, prompt=replace(screen.prompt, text=screen.prompt.text + letters))
        return after, [prompt_of(after)]

    return add


def showing(*bodies):
    return lambda screen: (screen, list(bodies))


def selecting(session, seq=0):
    return showing(selected((session.id, seq)))


def made(store, name="s", owner=OWNER):
    return store.change_screen(owner, name, nothing).after


def test_a_screen_is_made_by_its_first_change_and_is_one_for_owner_and_name(store):
    assert store.screen(OWNER, "a") is None

    first = store.change_screen(OWNER, "a", typing("x"))

    view = store.screen(OWNER, "a")
    assert view.screen == first.after
    assert (view.screen.number, view.screen.prompt.text, view.seq, view.permissions) == (1, "x", 0, ())
    assert made(store, "b").id != made(store, "a", "eve").id != view.screen.id
    assert store.screen(OWNER, "a") == view


def test_a_prompt_is_kept_with_all_that_belongs_to_it(store):
    prompt = Prompt("é\N{BALLOON}\n\t", 3, ("one", "two\x00"), 1, "draft")

    store.change_screen(OWNER, "a", lambda screen: (replace(screen, prompt=prompt, model="m"), []))
    store.change_screen(OWNER, "a", typing("!"))

    kept = store.screen(OWNER, "a").screen
    assert kept.prompt == replace(prompt, text=prompt.text + "!")
    assert kept.model == "m"


def test_events_are_numbered_and_read_from_any_number_on(store):
    for letters in "abc":
        changed = store.change_screen(OWNER, "a", typing(letters))
    store.change_screen(OWNER, "a", showing(to_show("toast", {}), to_show("toast", {})))

    found = store.screen_events(changed.after.id, 1)

    assert [event.number for event in found] == [2, 3, 4, 5]
    assert found[1] == changed.events[0] == ScreenEvent(3, prompt_of(changed.after).body, None, 0, None, 0)
    assert store.screen_events(changed.after.id, 5) == []
    assert store.screen_events("tui_missing", 0) == []


def test_a_change_that_fails_changes_nothing(store):
    store.change_screen(OWNER, "a", typing("x"))
    before = store.screen(OWNER, "a")

    def fail(screen):
        raise InvalidRequest("too long")

    with pytest.raises(InvalidRequest):
        store.change_screen(OWNER, "a", fail)
    assert store.screen(OWNER, "a") == before


def test_those_who_type_at_once_at_several_servers_lose_no_key(store, elsewhere):
    barrier = threading.Barrier(4)

    def type_all(where, letter):
        barrier.wait()
        for _ in range(25):
            where.change_screen(OWNER, "a", typing(letter))

    threads = [
        threading.Thread(target=type_all, args=(where, letter))
        for where, letter in ((store, "a"), (elsewhere, "b"), (store, "c"), (elsewhere, "d"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    view = store.screen(OWNER, "a")
    assert sorted(view.screen.prompt.text) == sorted("abcd" * 25)
    events = store.screen_events(view.screen.id, 0)
    assert [event.number for event in events] == list(range(1, 101))
    assert len({event.body for event in events}) == 100


# Its session


def test_events_say_how_far_the_session_was_and_from_where_it_is_shown(store):
    first, second = stored_session(store), stored_session(store)
    store.commit([Append(first.id, [text("a"), text("b")])])
    begun = store.change_screen(OWNER, "a", selecting(first, 1)).events
    store.commit([Append(first.id, [text("c")])])
    typed = store.change_screen(OWNER, "a", typing("x")).events
    again = store.change_screen(OWNER, "a", selecting(first, 0)).events
    other = store.change_screen(OWNER, "a", showing(selected((second.id, 0)), to_show("toast", {}))).events

    def places(events):
        return [(event.session_id, event.seq, event.next_session_id, event.next_seq) for event in events]

    assert places(begun) == [(None, 0, first.id, 1)]
    assert places(typed) == [(first.id, 3, first.id, 3)]
    assert places(again) == [(first.id, 3, first.id, 3)]  # it is the active one already
    assert places(other) == [(first.id, 3, second.id, 0), (second.id, 0, second.id, 0)]
    view = store.screen(OWNER, "a")
    assert (view.screen.session_id, view.seq) == (second.id, 0)
    assert store.screen_events(view.screen.id, 0) == [*begun, *typed, *again, *other]


def test_a_session_that_is_gone_is_active_no_longer_and_the_next_event_says_so(store):
    session = stored_session(store)
    store.commit([Append(session.id, [text()])])
    store.change_screen(OWNER, "a", selecting(session))

    store.delete(session.id)

    view = store.screen(OWNER, "a")
    assert (view.screen.session_id, view.seq) == (None, 0)
    (event,) = store.change_screen(OWNER, "a", typing("x")).events
    assert (event.session_id, event.next_session_id, event.next_seq) == (session.id, None, 0)
    (later,) = store.change_screen(OWNER, "a", typing("y")).events
    assert (later.session_id, later.next_session_id) == (None, None)


def test_anothers_session_is_never_the_active_one(store):
    hers = stored_session(store, "eve")
    store.change_screen(OWNER, "a", selecting(hers))
    assert store.screen(OWNER, "a").screen.session_id is None


def test_a_view_shows_what_waits_for_an_answer(store):
    session = stored_session(store)
    turn = a_turn(session)
    store.commit([start(turn)])
    asked = [AskPermission(f"per_{n}", session.id, turn.id, f"call_{n}", "bash", {"n": n}) for n in (2, 1)]
    store.commit([Append(session.id, [text(), text()], tuple(asked), (turn.id, 1))])
    store.change_screen(OWNER, "a", selecting(session))

    view = store.screen(OWNER, "a")

    assert [one.id for one in view.permissions] == ["per_1", "per_2"]
    assert view.seq == 3
    store.answer("per_1", "once")
    assert [one.id for one in store.screen(OWNER, "a").permissions] == ["per_2"]


def test_all_of_an_owners_screens_can_be_changed_and_nobody_elses(store):
    ids = {made(store, name).id for name in "ab"}
    made(store, "a", "eve")

    changed = store.change_screens(OWNER, showing(to_show("toast", {})))

    assert {one.after.id for one in changed} == ids
    assert store.screen("eve", "a").screen.number == 0
    assert store.change_screens("nobody", typing("x")) == []


# Bounds


def test_old_events_go_by_number_and_by_size(store):
    for _ in range(40):
        store.change_screen(OWNER, "large", showing(to_show("toast", {"message": "x" * 100_000})))
        many = store.change_screen(OWNER, "many", showing(*[to_show("toast", {})] * 40))

    large = store.screen_events(store.screen(OWNER, "large").screen.id, 0)
    assert large[-1].number == 40
    assert 500_000 < sum(len(event.body) for event in large) <= 1024 * 1024
    kept = [event.number for event in store.screen_events(many.after.id, 0)]
    assert kept == list(range(kept[0], 1601))
    assert 900 < len(kept) <= 1000

    huge = store.change_screen(OWNER, "large", showing(to_show("toast", {"message": "x" * 2_000_000})))
    assert store.screen_events(huge.after.id, 0) == list(huge.events)


def test_the_screen_that_is_unused_for_longest_makes_room_unless_somebody_looks(store):
    screens = [made(store, f"s{number}") for number in range(SCREENS)]
    made(store, "s0", "eve")
    store.change_screen(OWNER, "s0", typing("used"))
    store.look_at_screen(screens[1].id, "server-1", FAR)
    store.look_at_screen(screens[2].id, "server-2", FAR)
    store.look_at_screen(screens[2].id, "server-1", FAR)
    store.leave_screen(screens[2].id, "server-1")
    store.look_at_screen(screens[4].id, "server-1", time.time() - 1)  # it was killed

    made(store, "new")

    gone = [screen.name for screen in screens if store.screen(OWNER, screen.name) is None]
    assert gone == ["s3"]
    assert store.screen_ends([screens[3].id, screens[1].id]) == {screens[1].id: screens[1].number}
    assert store.screen_events(screens[3].id, 0) == []
    assert store.screen("eve", "s0") is not None


def test_where_all_are_looked_at_there_is_no_room_until_somebody_leaves(store):
    screens = [made(store, f"s{number}") for number in range(SCREENS)]
    for screen in screens:
        store.look_at_screen(screen.id, "server-1", FAR)

    with pytest.raises(InvalidRequest, match="50 screens"):
        made(store, "new")
    assert store.screen(OWNER, "new") is None

    store.leave_screen(screens[7].id, "server-1")
    made(store, "new")
    assert store.screen(OWNER, "s7") is None


def test_who_looks_at_a_screen_that_is_gone_does_no_harm(store):
    assert store.look_at_screen(made(store).id, "server-1", FAR) is True
    assert store.look_at_screen("tui_gone", "server-1", FAR) is False
    store.leave_screen("tui_gone", "server-1")


def test_of_many_who_make_screens_at_once_none_exceeds_the_bound(store, elsewhere):
    for number in range(SCREENS - 2):
        made(store, f"s{number}")
    barrier = threading.Barrier(6)
    ids = []

    def make(where, name):
        barrier.wait()
        ids.append((name, made(where, name).id))

    threads = [
        threading.Thread(target=make, args=(where, name)) for name in ("x", "y", "z") for where in (store, elsewhere)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(ids)) == 3  # two of the same name have the same one
    assert len(store.change_screens(OWNER, nothing)) == SCREENS
