"""Two servers' insides on one PostgreSQL and one Valkey, as two processes have them: what one does, the other sees."""

import threading

import pytest

from opencode.bus.tasks import TaskWorker
from opencode.provider.port import Text
from opencode.provider.scripted import Wait
from tests.session.story import assert_whole_turn, call, each, eventually, names, said, stories

pytestmark = pytest.mark.live

OWNER = "ada"


@pytest.fixture
def begin(tmp_path, postgres_url):
    """`begin(steps, **settings)`: another process on the same store."""
    with stories(tmp_path, database_url=postgres_url, lease_s=5.0) as begin:
        yield begin


@pytest.fixture
def play(begin, valkey):
    """`play(steps, **settings)`: another process on the same store and bell."""

    def ring(steps, **settings):
        story = begin(steps, redis_url=valkey.url, **settings)
        eventually(lambda: not story.services._shared.bus.lost)
        return story

    return ring


@pytest.fixture(params=["bell", "store"])
def either(request):
    """As `play`: processes that hear of one another by Redis; and such as have nothing but the store in common."""
    return request.getfixturevalue("play" if request.param == "bell" else "begin")


@pytest.fixture
def work(valkey):
    """Let a story hear the hints, as `opencode worker` does."""
    workers = []
    yield lambda story: workers.append(TaskWorker(valkey.url, story.sessions.turns.take_up, threads=2))
    for worker in workers:
        worker.close()


def test_a_turn_is_followed_through_another_process_event_by_event(either):
    go = threading.Event()
    here, there = either([[Text("one "), Wait(go), Text("two")]]), either([])
    session = here.session()
    seen = each(there.follow(session))

    turn = here.send(session)
    before = [next(seen) for _ in range(3)]
    assert names(before) == ["turn_start", "step", "text"]  # while it runs
    go.set()
    events = before + there.until_done(turn)[3:]

    assert_whole_turn(events)
    assert said(events) == "one two"
    assert there.stored(session) == here.stored(session)


def test_what_was_seen_in_one_process_is_known_in_the_other_at_once(either):
    here, there = either([[Text("hello")], [Text("again")]]), either([])
    session = here.session()
    kept = there.sessions.log.tail(session.id)  # one that has to catch up

    last = here.tell(session)[-1].seq

    assert list(each(there.follow(session, last, live=False))) == []
    assert kept.last_seq == last


def test_a_turn_is_stopped_through_another_process(either):
    never = threading.Event()
    here, there = either([[Text("one "), Wait(never), Text("two")]]), either([])
    session = here.session()
    turn = here.send(session)
    here.until(turn, "text")

    assert there.sessions.abort(OWNER, session.id) is True

    done = assert_whole_turn(here.until_done(turn))
    assert done.data["status"] == "aborted"


def test_a_person_answers_through_another_process(either):
    here, there = either([[call("bash", command="echo yes")], [Text("ran")]], permission={"bash": "ask"}), either([])
    session = here.session()
    turn = here.send(session)
    asked = there.until(turn, "permission_request").data["permission_id"]

    there.sessions.answer(OWNER, session.id, asked, "once")

    events = there.until_done(turn)
    assert_whole_turn(events)
    assert said(events) == "ran"


def test_a_deletion_ends_the_streams_of_other_processes(either):
    here, there = either([[Text("hello")]]), either([])
    session = here.session()
    here.tell(session)
    following = there.sessions.follow(OWNER, session.id, after=0, beat_s=0.2)
    seen = each(following.chunks)
    next(seen)

    here.sessions.delete(OWNER, session.id)

    assert [event.name for event in seen][-1] == "done"
    assert following.tail.deleted


def test_a_server_that_stops_hands_its_turns_to_another(either):
    never = threading.Event()
    first, second = either([[Text("one "), Wait(never)]]), either([[Text("all of it")]])
    turn = first.send(first.session())
    second.until(turn, "text")

    first.stop()

    events = second.until_done(turn)
    assert_whole_turn(events)
    assert said(events) == "all of it"


def test_a_server_hands_its_turns_to_a_worker_which_gives_its_place_back_while_it_waits(play, work):
    steps = [[call("bash", command="echo yes")], [Text("ran")]]
    server = play(steps, turns="worker")
    worker = play(steps, permission={"bash": "ask"})
    worker.services._runner._slots = 2
    work(worker)
    session = server.session()

    turn = server.send(session)
    asked = server.until(turn, "permission_request").data["permission_id"]
    assert not server.services._runner.has(turn.id)
    assert worker.services._runner.has(turn.id)
    eventually(worker.services._runner._running[turn.id].idle.is_set)
    server.sessions.answer(OWNER, session.id, asked, "once")

    events = server.until_done(turn)
    assert_whole_turn(events)
    assert said(events) == "ran"
    assert server.sessions.turn(OWNER, session.id, turn.id).crashes == 0


def test_where_all_places_are_taken_the_turn_that_waits_longest_is_the_next(play, work):
    go = threading.Event()
    server = play([], turns="worker")
    worker = play([[Wait(go), Text("done")]])
    worker.services._runner._slots = 1
    work(worker)
    sent = [server.send(server.session(), "busy")]
    server.until(sent[0], "step")

    sent += [server.send(server.session(), content) for content in ("first", "second", "third")]
    # There is no place for any of them, and when there is one, the newest is hinted at
    eventually(lambda: worker.sessions.turns._behind)
    worker.services._runner._slots = 2
    hint = threading.Thread(target=worker.sessions.turns.take_up, args=(sent[-1].session_id, sent[-1].id))
    hint.start()
    eventually(lambda: len(worker.provider.requests) > 1)
    go.set()
    hint.join()

    for turn in sent:
        assert_whole_turn(server.until_done(turn))
    asked = [request.messages[-1].content for request in worker.provider.requests]
    assert asked[:2] == ["busy", "first"]
    assert sorted(asked) == sorted(["busy", "first", "second", "third"])


def test_a_worker_that_stops_hands_its_turns_to_another(play):
    never, go = threading.Event(), threading.Event()
    server = play([], turns="worker")
    first = play([[Text("one "), Wait(never)]])
    session = server.session()
    turn = server.send(session)
    server.until(turn, "text")

    go.set()
    second = play([[Text("all of it")]])
    first.stop()

    events = server.until_done(turn)
    assert_whole_turn(events)
    assert said(events) == "all of it"
    assert second.sessions.turn(OWNER, session.id, turn.id).crashes == 0


def test_a_turn_is_found_by_workers_also_where_its_hint_is_lost(play, valkey):
    server, _worker = play([], turns="worker"), play([[Text("found")]])
    session = server.session()
    valkey.kill()

    turn = server.send(session)

    assert said(server.until_done(turn)) == "found"


def test_an_owner_has_as_many_turns_as_the_settings_allow_over_all_processes(either):
    from opencode.errors import RateLimitExceeded

    never = threading.Event()
    here, there = (either([[Text("x"), Wait(never)]], max_turns=1) for _ in range(2))
    turn = here.send(here.session())

    with pytest.raises(RateLimitExceeded, match="OPENCODE_MAX_TURNS"):
        there.send(there.session())
    here.sessions.abort(OWNER, turn.session_id)
