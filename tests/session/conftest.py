import shutil

import pytest

from opencode.bus.memory import MemoryBus
from opencode.session.log import EventLog
from opencode.storage.sql import open_store
from tests.session.story import stories


@pytest.fixture
def play(tmp_path, empty_store):
    """Open a server's inside on a directory of its own: `play(steps, **settings)`; it is stopped at the end."""
    shutil.copytree(empty_store, tmp_path / "data")
    with stories(tmp_path) as begin:
        yield begin


@pytest.fixture
def store(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "data")
    opened = open_store(None, tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def log(store):
    opened = EventLog(store, MemoryBus())
    yield opened
    opened.close_followers()
    opened.close()
