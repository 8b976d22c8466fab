"""SIGTERM of servers and workers that share Redis: it takes no longer than without, also where Redis does not answer."""

import contextlib
import signal
import sys
import time

from tests.live.client import Client
from tests.live.server import Server, side_by_side


def stopped(server):
    """Ask it to stop: the seconds until it has ended."""
    began = time.monotonic()
    server.terminate()
    assert server.wait(60) == 0, server.output()
    return time.monotonic() - began


def test_a_stop_takes_no_longer_with_redis_than_without_also_where_it_hangs(tmp_path, postgres_url, valkey):
    given = {"DATABASE_URL": postgres_url, "REDIS_URL": valkey.url}
    several = {
        "alone": Server.serve(tmp_path / "alone"),
        "together": Server.serve(tmp_path / "together", **given),
        "hung": Server.serve(tmp_path / "hung", OPENCODE_TURNS="worker", **given),
    }
    command = [sys.executable, "-m", "opencode", "worker"]
    workers = {name: Server(tmp_path / name, command, port=0, **given) for name in ("worker", "hung worker")}
    with contextlib.ExitStack() as held, side_by_side(several):
        for worker in workers.values():
            held.callback(worker.kill)
            worker.start()
        for server in several.values():
            client = Client(server)
            held.callback(client.follow(client.session()).close)
        for worker in workers.values():
            worker.says("is ready", 60)

        took = {"alone": stopped(several["alone"]), "together": stopped(several["together"])}
        took["worker"] = stopped(workers["worker"])
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            took |= {"hung": stopped(several["hung"]), "hung worker": stopped(workers["hung worker"])}
        finally:
            valkey.process.send_signal(signal.SIGCONT)

    # Each wait for a Redis that does not answer would add at least two seconds.
    slow = {name: seconds for name, seconds in took.items() if seconds > 2 * took["alone"] + 1.5}
    assert not slow, took
