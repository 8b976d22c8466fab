"""The inside of a server with a scripted model, real tools and a real store, used through its front door."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opencode import frames
from opencode.provider.port import ToolCall
from opencode.provider.scripted import Scripted
from opencode.session.tail import Chunk
from opencode.settings import Settings
from opencode.wiring import build_services

OWNER = "ada"
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Seen:
    """One event as a follower saw it."""

    seq: int
    name: str
    data: dict[str, Any]


def seen(data: bytes) -> list[Seen]:
    return [Seen(*frames.parse(frame)) for frame in frames.split(data)]


def each(chunks: Iterable[Chunk | None], deadline_s: float = DEADLINE_S) -> Iterator[Seen]:
    """The events of a follower, one by one; a failure where the next does not come in time."""
    deadline = time.monotonic() + deadline_s
    for chunk in chunks:
        if chunk is not None:
            yield from seen(chunk.data)
        assert time.monotonic() < deadline, "the events did not come in time"


def eventually(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """What `condition` gives as soon as it is true."""
    deadline = time.monotonic() + deadline_s
    tick = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not become true in time"
        tick.wait(0.005)
    return found


class Story:
    """`directory` is where the sessions work; `provider` holds the requests that the model got."""

    def __init__(self, place, steps, **settings):
        self.directory = (place / "work").resolve()
        self.directory.mkdir(exist_ok=True)
        self.provider = Scripted(steps) if isinstance(steps, list) else steps
        # A model under which the script answers, and no key or address of the machine that the tests run on.
        given = {"model": "scripted/script", "directory": self.directory, "data_dir": place / "data"}
        environ = {"PATH": os.environ["PATH"], "HOME": str(place)}
        providers = {"scripted": self.provider} if not isinstance(self.provider, dict) else self.provider
        self.services = build_services(Settings(**given | settings), environ, providers=providers)
        self.sessions = self.services.sessions

    def stop(self, timeout_s=0.0):
        if self.services is not None:
            self.services.stop(timeout_s)
            self.services = None

    def session(self, **values):
        return self.sessions.create(OWNER, **values)

    def send(self, session, content="go", **more):
        return self.sessions.send(OWNER, session.id, content, **more)

    def follow(self, session, after=0, *, live=True, turn=None, beat_s=0.5):
        following = self.sessions.follow(
            OWNER, session.id, after=after, beat_s=beat_s, live=live, turn_id=turn.id if turn else None
        )
        return following.chunks

    def until_done(self, turn) -> list[Seen]:
        """The turn's events, from its first to its `done`."""
        return list(each(self.follow(self._of(turn), turn.first_seq - 1, turn=turn)))

    def until(self, turn, name, nth=1) -> Seen:
        """The turn's first (or nth) event of this name, as soon as it is there."""
        chunks = self.follow(self._of(turn), turn.first_seq - 1)
        try:
            for event in each(chunks):
                if event.name == name:
                    nth -= 1
                if nth == 0:
                    return event
        finally:
            chunks.close()
        raise AssertionError(f"the log ended without {name}")

    def tell(self, session, content="go", **more) -> list[Seen]:
        """Send a message and give the whole turn."""
        return self.until_done(self.send(session, content, **more))

    def stored(self, session) -> list[Seen]:
        """All events of the session's log."""
        return list(each(self.follow(session, live=False)))

    def messages(self, session):
        return self.sessions.snapshot(OWNER, session.id, limit=100, before=None)[1]

    def put(self, path, content):
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    @staticmethod
    def _of(turn):
        return _Named(turn.session_id)


@contextmanager
def stories(directory: Path, **common: Any) -> Iterator[Callable[..., Story]]:
    """Give `begin(steps, **settings)`: a story in this directory, with `common` settings; all are stopped at the end."""
    with ExitStack() as stack:

        def begin(steps: Any, **settings: Any) -> Story:
            story = Story(directory, steps, **(common | settings))
            stack.callback(story.stop)
            return story

        yield begin


@dataclass(frozen=True)
class _Named:
    id: str


def names(events: Iterable[Seen]) -> list[str]:
    return [event.name for event in events]


def of(events: Iterable[Seen], name: str) -> list[dict[str, Any]]:
    """The data of the events of this name."""
    return [event.data for event in events if event.name == name]


def call(tool: str, call_id: str = "call_1", **params: Any) -> ToolCall:
    """The model calls a tool."""
    return ToolCall(call_id, tool, params)


def said(events: Iterable[Seen]) -> str:
    """The text that counts, folded from events as a client does: what a `step` discards is left out."""
    texts: list[tuple[int, str]] = []
    for event in events:
        if event.name == "text":
            texts.append((event.seq, event.data["content"]))
        elif event.name == "step" and event.data["discards_from"] is not None:
            texts = [(seq, text) for seq, text in texts if seq < event.data["discards_from"]]
    return "".join(text for _seq, text in texts)


def assert_whole_turn(events: list[Seen]) -> Seen:
    """What holds for every turn: numbers without a gap, one start, one `done` at the end that counts them; its data."""
    assert [event.seq for event in events] == list(range(events[0].seq, events[0].seq + len(events)))
    assert names(events).count("turn_start") == names(events).count("done") == 1
    assert (events[0].name, events[-1].name) == ("turn_start", "done")
    done = events[-1].data
    assert done["events"] == len(events)
    assert done["tokens"] == done["usage"]["input"] + done["usage"]["output"]
    assert done["duration"] >= 0
    errors = [event for event in events if event.name == "error"]
    assert len(errors) == (1 if done["status"] == "failed" else 0)
    assert {event.data["turn_id"] for event in events if event.name != "session_updated"} == {done["turn_id"]}
    calls = [event.data["call_id"] for event in events if event.name == "tool_call"]
    results = [event.data["call_id"] for event in events if event.name == "tool_result"]
    assert sorted(calls) == sorted(results)
    assert len(set(calls)) == len(calls)
    return events[-1]
