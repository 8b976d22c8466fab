"""A thread of the operating system's, with and without greenlets around it."""

import threading
import time

import pytest

from opencode.native import NativeThread


@pytest.fixture
def thread():
    thread = NativeThread()
    yield thread
    thread.close()


def test_a_job_runs_in_another_thread_and_its_result_comes_back(thread):
    assert thread.call(threading.get_native_id) != threading.get_native_id()


def test_what_a_job_raises_is_raised_to_who_called(thread):
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert thread.call(lambda: "the next one") == "the next one"


def test_jobs_run_one_after_the_other(thread):
    ran = []
    for number in range(100):
        thread.post(lambda number=number: ran.append(number))

    assert thread.call(lambda: list(ran)) == list(range(100))


def test_others_run_while_somebody_waits_for_a_job(thread):
    let_go = []
    other = threading.Thread(target=lambda: let_go.append(True))

    def job():
        deadline = time.monotonic() + 30
        while not let_go and time.monotonic() < deadline:
            pass
        return bool(let_go)

    # It begins to run while the call waits: in a greenlet's place nobody would ever let go.
    other.start()

    assert thread.call(job)
    other.join(30)


def test_several_may_call_at_once(thread):
    found = []
    callers = [
        threading.Thread(target=lambda number=number: found.append((number, thread.call(lambda: number))))
        for number in range(20)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)

    assert sorted(found) == [(number, number) for number in range(20)]


def test_closing_runs_what_was_posted():
    thread, ran = NativeThread(), []
    thread.post(lambda: ran.append(True))

    thread.close()

    assert ran == [True]


def test_one_that_was_never_used_closes():
    NativeThread().close()
