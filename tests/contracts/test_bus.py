"""What every doorbell promises: a ring reaches all who listened before it, and says nothing but that it rang."""

import gc
import threading
import time
import weakref

import pytest

from opencode.bus.memory import MemoryBus
from opencode.bus.polled import PolledBus
from opencode.bus.redis import RedisBus
from tests.session.story import eventually

DEADLINE_S = 30


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.live)])
def bus(request):
    made = MemoryBus() if request.param == "memory" else RedisBus(request.getfixturevalue("valkey").url)
    eventually(lambda: not getattr(made, "lost", False))
    yield made
    made.close()


def listening(bus, topic):
    """An ear that nothing but rings will wake: between processes, the subscription itself rings once."""
    ear = bus.subscribe(topic)
    if isinstance(bus, RedisBus):
        assert ear.wait(DEADLINE_S)
    return ear


def test_a_ring_reaches_who_subscribed_before_it_even_if_they_wait_later(bus):
    ear = listening(bus, "ses_1")

    bus.ring("ses_1")

    assert ear.wait(0) is True
    assert ear.wait(0) is False


def test_several_rings_between_two_waits_are_one(bus):
    ear = listening(bus, "ses_1")

    for _ in range(3):
        bus.ring("ses_1")

    assert ear.wait(0) is True
    assert ear.wait(0) is False


def test_a_ring_before_the_subscription_is_not_heard(bus):
    bus.ring("ses_1")

    assert listening(bus, "ses_1").wait(0) is False


def test_another_topics_ring_is_not_heard(bus):
    ear = listening(bus, "ses_1")

    bus.ring("ses_2")

    assert ear.wait(0) is False


def test_every_subscription_of_a_topic_hears_the_ring(bus):
    ears = [bus.subscribe("ses_1") for _ in range(50)]

    bus.ring("ses_1")

    assert [ear.wait(0) for ear in ears] == [True] * 50


def test_a_closed_subscription_hears_nothing_and_may_be_closed_again(bus):
    closed, open_ = listening(bus, "ses_1"), bus.subscribe("ses_1")

    closed.close()
    closed.close()
    bus.ring("ses_1")

    assert closed.wait(0) is False
    assert open_.wait(0) is True


def test_a_waiting_thread_is_woken_at_once(bus):
    ear = bus.subscribe("ses_1")
    heard = []
    waiting = threading.Thread(target=lambda: heard.append(ear.wait(DEADLINE_S)))
    waiting.start()
    began = time.monotonic()

    bus.ring("ses_1")
    waiting.join(DEADLINE_S)

    assert heard == [True]
    assert time.monotonic() - began < DEADLINE_S / 2


def test_without_a_ring_a_wait_ends_after_its_time(bus):
    ear = listening(bus, "ses_1")
    began = time.monotonic()

    assert ear.wait(0.05) is False
    assert 0.04 <= time.monotonic() - began < DEADLINE_S


def test_closing_wakes_everyone_on_every_topic(bus):
    ears = [bus.subscribe(f"ses_{n}") for n in range(3)]

    bus.close()

    assert [ear.wait(0) for ear in ears] == [True] * 3


def test_no_ring_is_lost_while_threads_come_and_go(bus):
    heard = []
    ringing = threading.Event()

    def listen():
        for _ in range(60):
            ear = bus.subscribe("ses_1")
            heard.append(ear.wait(DEADLINE_S))
            ear.close()

    threads = [threading.Thread(target=listen) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        bus.ring("ses_1")
        ringing.wait(0)

    assert heard == [True] * 240


def test_a_topic_that_nobody_listens_to_any_more_leaves_nothing_behind(bus):
    ear = bus.subscribe("ses_1")
    left = weakref.ref(ear)

    ear.close()
    del ear
    gc.collect()

    assert left() is None


def test_where_there_is_no_bell_everybody_looks_again_and_again():
    bus = PolledBus()
    ears = [bus.subscribe(topic) for topic in ("ses_1", "ses_2")]
    try:
        assert [ear.wait(DEADLINE_S) for ear in (*ears, *ears)] == [True] * 4
    finally:
        bus.close()


def test_a_bus_that_works_passes_its_check(bus):
    bus.check()
