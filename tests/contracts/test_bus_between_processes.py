"""The doorbell between processes: rings arrive elsewhere, and when Redis dies everyone looks for himself."""

import logging
import signal

import pytest

from opencode.bus.redis import RedisBus
from opencode.errors import SettingsError, StoreError
from tests.session.story import eventually

pytestmark = pytest.mark.live

DEADLINE_S = 30.0


@pytest.fixture
def pair(valkey):
    """Two processes' buses on one server."""
    buses = [RedisBus(valkey.url), RedisBus(valkey.url)]
    eventually(lambda: not any(bus.lost for bus in buses), DEADLINE_S)
    yield buses
    for bus in buses:
        bus.close()


def subscribed(bus, topic):
    """An ear that the server knows of: its subscription rings once, as something may have come just before it."""
    ear = bus.subscribe(topic)
    assert ear.wait(DEADLINE_S)
    return ear


def test_a_ring_arrives_in_another_process_and_on_no_other_topic(pair):
    here, there = pair
    ear, other = subscribed(there, "ses_1"), subscribed(there, "ses_2")

    here.ring("ses_1")

    assert ear.wait(DEADLINE_S) is True
    assert other.wait(0) is False


def test_who_subscribes_is_rung_once_so_that_nothing_falls_between_reading_and_subscribing(pair):
    assert pair[0].subscribe("ses_new").wait(DEADLINE_S) is True


def test_a_process_hears_its_own_rings_once(pair):
    here, there = pair
    mine, theirs = subscribed(here, "ses_1"), subscribed(there, "ses_1")

    here.ring("ses_1")

    assert theirs.wait(DEADLINE_S) is True  # by now the echo is here as well, or is on its way
    assert mine.wait(0) is True
    there.ring("marker")
    marker = subscribed(here, "marker")
    here.ring("marker")
    assert marker.wait(DEADLINE_S) is True
    assert mine.wait(0) is False


def test_a_topic_that_is_left_and_taken_up_again_is_heard(pair):
    here, there = pair
    for _ in range(20):
        subscribed(there, "ses_1").close()
    ear = subscribed(there, "ses_1")

    here.ring("ses_1")

    assert ear.wait(DEADLINE_S) is True


def test_while_redis_is_dead_everyone_is_rung_now_and_then_and_afterwards_rings_arrive_again(pair, valkey, caplog):
    here, there = pair
    told = []
    there.on_lost = told.append
    ear = subscribed(there, "ses_1")

    with caplog.at_level(logging.WARNING):
        valkey.kill(signal.SIGKILL)
        eventually(lambda: there.lost and here.lost, DEADLINE_S)
        assert [ear.wait(DEADLINE_S) for _ in range(3)] == [True] * 3
    with pytest.raises(StoreError, match="REDIS_URL is out of reach"):
        here.check()
    here.ring("ses_1")  # for later: it must neither block nor raise

    valkey.start()
    eventually(lambda: not (there.lost or here.lost), DEADLINE_S)
    while ear.wait(2.0):  # what was missed
        pass
    here.ring("ses_1")

    assert ear.wait(DEADLINE_S) is True
    assert told == [True, False]
    assert "Redis is lost, the store is polled" in caplog.text
    here.check()


def test_a_server_that_hangs_counts_as_lost(pair, valkey):
    there = pair[1]
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: there.lost, DEADLINE_S * 2)
    finally:
        valkey.process.send_signal(signal.SIGCONT)
    eventually(lambda: not there.lost, DEADLINE_S)


@pytest.mark.parametrize("url", ["notaurl", "http://host:1/", "redis://host:port/0"])
def test_a_malformed_address_is_refused_with_the_form_it_should_have(url):
    with pytest.raises(SettingsError, match="REDIS_URL must be redis://host:port/0"):
        RedisBus(url)
