"""What the scenarios share."""

import contextlib
import sqlite3
import threading

from bench import fault_plan
from bench.fault_checks import check


def started(works):
    """Each in a thread of its own."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def told(threads, seconds):
    """Wait for threads that were told to end."""
    for thread in threads:
        thread.join(seconds)
        if thread.is_alive():
            raise AssertionError("a client did not come to an end")


def unstored(database, talks):
    """What a client has seen and the store does not hold, at this very moment."""
    seen = {talk: max(talk.poster.last, talk.watcher.last) for talk in talks}
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as store:
        both = "SELECT session_id, last_seq FROM events UNION ALL SELECT session_id, last_seq FROM pieces"
        rows = dict(store.execute(f"SELECT session_id, max(last_seq) FROM ({both}) GROUP BY session_id").fetchall())
    return [
        f"{talk.record.name}: event {last} was shown, the store holds {rows.get(talk.session, 0)}"
        for talk, last in seen.items()
        if last > rows.get(talk.session, 0)
    ]


def checked(talks):
    """Take what the store has of each conversation, and check it."""
    found = []
    for talk in talks:
        talk.look()
        talk.replay()
        if not talk.record.watched:
            talk.record.watched[:] = talk.record.posted
        found += check(talk.record)
    return found


def asking_prompt(talk):
    """A prompt whose first call is of `bash`."""
    for number in range(1000):
        content = fault_plan.prompt(f"{talk.record.name}.{number}", 3, str(talk.ledger), cuts=False)
        if fault_plan.reply(content, 1).calls[0].tool == "bash":
            return content
    raise AssertionError("no such prompt")


def answer_all(client, talk, permission_id):
    """Allow this call, and all that follow, until the turn is over: its events."""
    events = []
    with client.follow(talk.session, last_event_id=talk.poster.last) as stream:
        while not events or events[-1].name != "done":
            if permission_id:
                path = f"{talk.path}/permission/{permission_id}"
                answer = client.call("POST", path, {"response": "once"})
                assert answer.status == 200, answer.data
                permission_id = None
            events.append(stream.next())
            if events[-1].name == "permission_request":
                permission_id = events[-1].data["permission_id"]
    return events
