"""How many events a second the log takes, on SQLite and on PostgreSQL, in one run: `python -m bench.stores`.

Groups as a busy writer makes them: one piece of text of each of so many turns, in one commit.
"""

import tempfile
import time
from pathlib import Path

from opencode.storage.sql import open_store
from tests.contracts.stored import a_turn as new_turn
from tests.contracts.stored import start, stored_session, texts
from tests.databases import Postgres

_SECONDS = 3.0


def measure(store, turns):
    """Events a second, and the milliseconds of a commit."""
    running = []
    for _ in range(turns):
        turn = new_turn(stored_session(store))
        store.commit([start(turn)])
        running.append(turn)
    began, commits = time.monotonic(), 0
    while time.monotonic() - began < _SECONDS:
        store.commit([texts(turn.session_id, "a word ", turn=turn) for turn in running])
        commits += 1
    took = time.monotonic() - began
    return commits * turns / took, took / commits * 1000


def main():
    """Print a line for each store and size of group."""
    server = Postgres()
    try:
        with tempfile.TemporaryDirectory() as folder:
            stores = {"SQLite": open_store(None, Path(folder)), "PostgreSQL": open_store(server.url(), Path(folder))}
            for turns in (1, 10, 50):
                for name, store in stores.items():
                    events, commit_ms = measure(store, turns)
                    print(f"{name:<10} {turns:>3} turns: {events:>8.0f} events/s, a commit takes {commit_ms:.2f} ms")
            for store in stores.values():
                store.close()
    finally:
        server.remove()


if __name__ == "__main__":
    main()
