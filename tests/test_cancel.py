import threading
import time

import pytest

from opencode.cancel import Cancel
from opencode.errors import Cancelled

DEADLINE_S = 10


def test_an_unturned_switch_lets_everything_pass():
    cancel = Cancel()

    cancel.check()

    assert cancel.cancelled is False
    assert cancel.wait(0) is False


def test_a_turned_switch_ends_what_checks_it_and_says_why():
    cancel = Cancel()

    cancel.cancel("out of time")

    assert cancel.cancelled
    assert cancel.wait(0) is True
    with pytest.raises(Cancelled) as ended:
        cancel.check()
    assert ended.value.reason == "out of time"


def test_the_first_reason_stands():
    cancel = Cancel()

    cancel.cancel("aborted")
    cancel.cancel("out of time")

    assert cancel.reason == "aborted"


def test_callbacks_run_once_and_at_once_where_the_switch_is_turned_already():
    cancel, called = Cancel(), []
    cancel.on_cancel(lambda: called.append("before"))

    cancel.cancel()
    cancel.cancel()
    cancel.on_cancel(lambda: called.append("after"))

    assert called == ["before", "after"]


def test_a_callback_that_was_taken_back_does_not_run():
    cancel, called = Cancel(), []
    take_back = cancel.on_cancel(lambda: called.append("gone"))
    cancel.on_cancel(lambda: called.append("stays"))

    take_back()
    take_back()
    cancel.cancel()
    take_back()

    assert called == ["stays"]


def test_a_callback_may_look_at_the_switch_and_add_another():
    cancel, called = Cancel(), []
    cancel.on_cancel(lambda: cancel.on_cancel(lambda: called.append(cancel.cancelled)))

    cancel.cancel()

    assert called == [True]


def test_who_waits_is_woken_at_once():
    cancel, woken = Cancel(), []
    waiting = [threading.Thread(target=lambda: woken.append(cancel.wait(DEADLINE_S))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    began = time.monotonic()

    cancel.cancel()

    for thread in waiting:
        thread.join(DEADLINE_S)
    assert woken == [True] * 5
    assert time.monotonic() - began < DEADLINE_S / 2


def test_however_threads_race_every_callback_runs_exactly_once():
    for _ in range(50):
        cancel, called, ready = Cancel(), [], threading.Barrier(4)

        def add(cancel=cancel, called=called, ready=ready):
            ready.wait(DEADLINE_S)
            for _ in range(5):
                cancel.on_cancel(lambda: called.append(1))

        def turn(cancel=cancel, ready=ready):
            ready.wait(DEADLINE_S)
            cancel.cancel()

        threads = [threading.Thread(target=work) for work in (add, add, turn, turn)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert called == [1] * 10
