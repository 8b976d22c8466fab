"""What is being worked on: the ids that go into log lines."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_IDS: ContextVar[Mapping[str, str]] = ContextVar("opencode_ids", default={})  # noqa: B039 - never changed, only replaced


def ids() -> Mapping[str, str]:
    """The ids of what this thread, or greenlet, works on, such as `session_id` and `turn_id`."""
    return _IDS.get()


@contextmanager
def work(**own: str) -> Iterator[None]:
    """Work on something: its ids are in each log line meanwhile."""
    token = _IDS.set({**_IDS.get(), **own})
    try:
        yield
    finally:
        _IDS.reset(token)
