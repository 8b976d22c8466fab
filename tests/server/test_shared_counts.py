"""What several servers count together, as if they were one, and what holds while Redis is away."""

import contextlib
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from opencode.redis_client import connect
from opencode.server.guesses import FREE, Guesses, SharedGuesses
from opencode.server.open_streams import SharedStreams
from opencode.server.reach import Reach
from tests.live.client import Client
from tests.live.server import Server, side_by_side, until
from tests.server.talk import create, follow, stream
from tests.session.story import eventually

pytestmark = pytest.mark.live

DEADLINE_S = 40.0
TOKEN = "a-token-of-several-servers"
RIGHT, WRONG = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, "wrong"))


@pytest.fixture
def servers(make_app, postgres_url, valkey):
    """Clients of two servers on one PostgreSQL and one Valkey."""

    def make(**settings):
        given = {"database_url": postgres_url, "redis_url": valkey.url, "rate_limit": True, "auth_tokens": (TOKEN,)}
        return [make_app(**given | settings).test_client() for _ in range(2)]

    return make


@pytest.fixture
def redis(valkey):
    """A client of it for each process that a test needs."""
    made = []

    def make():
        made.append(connect(valkey.url, timeout_s=5.0))
        return made[-1]

    yield make
    for client in made:
        client.close()


def ask(client, headers=RIGHT):
    return client.get("/api/sessions", headers=headers).status_code


# Requests


def test_processes_count_together_and_let_everybody_pass_while_redis_is_away(servers, valkey, caplog):
    both = servers(rate_limit_max_requests=3, rate_limit_window_ms=600_000)

    assert [ask(both[0]), ask(both[1]), ask(both[0]), ask(both[1])] == [200, 200, 200, 429]

    with caplog.at_level(logging.WARNING):
        valkey.kill()
        assert [ask(both[0]) for _ in range(5)] == [200] * 5
    assert caplog.text.count("limits: Redis is out of reach") == 1
    metrics = both[0].get("/metrics", headers=RIGHT).get_data(as_text=True)
    assert "opencode_limits_open_total 0.0" not in metrics

    valkey.start()
    eventually(lambda: ask(both[0]) == 429, DEADLINE_S)


# Wrong tokens


def test_who_sends_wrong_tokens_to_one_server_waits_at_all_and_a_right_one_at_none(servers):
    here, there = servers()

    assert [ask(here, WRONG) for _ in range(FREE)] == [401] * FREE
    # The first wait is a second, and this machine may be slow: somebody who goes on guessing is not let off.
    refused = [there.get("/api/sessions", headers=WRONG) for _ in range(FREE)]

    assert 429 in [answer.status_code for answer in refused]
    assert "OPENCODE_AUTH_TOKENS" in next(a for a in refused if a.status_code == 429).json["error"]["message"]
    assert (ask(here), ask(there)) == (200, 200)


def test_while_redis_is_away_wrong_tokens_are_slowed_at_each_server(servers, valkey):
    here, there = servers()
    valkey.kill()

    for client in (here, there):
        answers = [ask(client, WRONG) for _ in range(FREE * 3)]
        assert answers[:FREE] == [401] * FREE
        assert 429 in answers
        assert ask(client) == 200


def test_wrong_tokens_at_the_same_moment_are_all_counted_and_all_are_forgotten(redis):
    look, several = redis(), [SharedGuesses(redis(), Reach(), Guesses()) for _ in range(2)]

    with ThreadPoolExecutor(FREE) as pool:
        waits = list(pool.map(lambda n: several[n % 2].failed("10.0.0.1"), range(FREE)))

    assert waits == [0] * FREE
    assert look.hget("opencode:guesses:10.0.0.1", "failures") == str(FREE).encode()
    assert several[0].failed("10.0.0.2") == 0
    assert all(0 < look.pttl(key) <= 902_000 for key in look.keys("opencode:guesses:*"))


def test_each_further_wrong_token_after_a_wait_doubles_it_up_to_its_end(redis):
    look, guesses = redis(), SharedGuesses(redis(), Reach(), Guesses())
    key = "opencode:guesses:10.0.0.1"

    for failures, wait_s in ((FREE + 4, 32), (FREE + 5, 64), (FREE + 200, 900)):
        look.hset(key, mapping={"failures": failures, "waits_until": 0})
        assert guesses.failed("10.0.0.1") == 0
        assert wait_s - 25 < guesses.failed("10.0.0.1") <= wait_s  # some of it may have passed
        assert look.hget(key, "failures") == str(failures + 1).encode()  # asking meanwhile makes it no longer


# Open streams


def test_open_streams_are_capped_over_all_servers_and_one_that_ends_makes_room_everywhere(servers):
    here, there = servers(max_streams=2)
    session_id = create(here, RIGHT)
    first = follow(here, session_id, headers=RIGHT)
    second = follow(there, session_id, headers=RIGHT)

    for client in (here, there):
        answer = client.get(f"/api/session/{session_id}/message", headers=RIGHT)
        assert answer.status_code == 429
        assert "OPENCODE_MAX_STREAMS" in answer.json["error"]["message"]
    first.close()

    def opened():
        answer = there.get("/tui/events", headers=RIGHT)
        return stream(answer) if answer.status_code == 200 else None

    eventually(opened, DEADLINE_S).close()
    second.close()


def test_not_one_stream_too_many_is_opened_at_the_same_moment(redis):
    several = [SharedStreams(5, redis(), Reach()) for _ in range(3)]
    opened = []

    with ThreadPoolExecutor(12) as pool:
        opened += filter(None, pool.map(lambda n: several[n % 3].open("ada"), range(36)))

    assert len(opened) == 5
    other = several[0].open("bert")
    for found in (*opened, other):
        found.close()
    look = redis()
    eventually(lambda: not look.keys("opencode:streams:*"), DEADLINE_S)


def test_while_redis_is_away_each_server_caps_by_itself_and_afterwards_all_together(redis, valkey):
    here, there = (SharedStreams(2, redis(), Reach()) for _ in range(2))
    opened = [here.open("ada"), here.open("ada")]
    assert all(opened)
    assert there.open("ada") is None

    valkey.kill()
    eventually(lambda: opened.append(there.open("ada")) or opened[-1], DEADLINE_S)
    opened.append(there.open("ada"))
    assert opened[-1]
    assert there.open("ada") is None

    valkey.start()
    opened.pop().close()

    def refused():
        found = there.open("ada")
        if found:
            found.close()
        return found is None

    eventually(refused, DEADLINE_S)
    for found in filter(None, opened):
        found.close()


def test_a_redis_that_hangs_delays_only_the_first_stream_that_opens(redis, valkey):
    hung = SharedStreams(100, connect(valkey.url, timeout_s=1.0), Reach())
    hung.open("ada").close()
    began = time.monotonic()
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        opened = [hung.open("ada") for _ in range(50)]
    finally:
        valkey.process.send_signal(signal.SIGCONT)

    assert all(opened)
    assert time.monotonic() - began < 25.0  # and no second for each
    for found in opened:
        found.close()


def test_the_streams_of_a_killed_server_make_room_at_the_others(tmp_path, postgres_url, valkey):
    shared = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": valkey.url,
        "OPENCODE_AUTH_TOKENS": TOKEN,
        "OPENCODE_MAX_STREAMS": 3,
        "OPENCODE_RATE_LIMIT_MAX_REQUESTS": 1_000_000,
    }
    two = {name: Server.serve(tmp_path / name, token=TOKEN, **shared) for name in ("killed", "left")}
    with side_by_side(two), contextlib.ExitStack() as streams:
        killed, left = (Client(two[name]) for name in two)
        session = killed.session()
        # The other's own stream goes on, and keeps what is known of their owner.
        for client in (killed, killed, left):
            streams.enter_context(client.follow(session))
        assert left.call("GET", f"/api/session/{session}/message").status == 429

        two["killed"].kill()

        path = f"/api/session/{session}/message?until=end"
        until(lambda: left.call("GET", path).status == 200, DEADLINE_S, "a killed server's streams to be forgotten")
