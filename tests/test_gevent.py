"""The run under gevent is patched, and the plain one is not."""

import os
import queue
import select
import socket
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(not os.environ.get("OPENCODE_TEST_GEVENT"), reason="only in the run under gevent")
def test_the_gevent_run_is_patched_before_anything_else():
    import gevent.monkey
    import gevent.socket
    import gevent.thread

    # Then what waits is gevent's, in the modules that were imported at the start of this file as well.
    assert all(gevent.monkey.is_module_patched(name) for name in ("socket", "ssl", "threading", "select", "subprocess"))
    assert socket.socket is gevent.socket.socket
    assert select.select.__module__.startswith("gevent")
    assert isinstance(threading.Lock(), gevent.thread.LockType)
    assert threading.Event.__module__.startswith("gevent")
    assert queue.SimpleQueue.__module__.startswith("gevent")

    # And a thread is a greenlet: it runs in the one thread of the operating system that there is.
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(gevent.monkey.get_original("threading", "get_ident")()))
    thread.start()
    thread.join()
    assert seen == [gevent.monkey.get_original("threading", "get_ident")()]


@pytest.mark.skipif(bool(os.environ.get("OPENCODE_TEST_GEVENT")), reason="only in the plain run")
def test_the_plain_run_is_not_patched():
    assert socket.socket.__module__ == "socket"
    assert not threading.Lock.__module__.startswith("gevent")


def test_the_gevent_launcher_patches_in_its_first_statement():
    lines = (ROOT / "scripts" / "pytest_gevent.py").read_text().split('"""')[2].split("\n")
    statements = [line for line in lines if line and not line.startswith("#")]

    assert statements[:2] == ["from gevent import monkey", "monkey.patch_all()"]
