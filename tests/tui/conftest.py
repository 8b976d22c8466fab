"""One server for the tests of the terminal interface; each has a screen of its own, under its own name."""

import itertools
from pathlib import Path

import pytest

from tests.live.server import Server
from tests.tui.terminal import Terminals

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items):
    """Once, in the plain run: Textual runs on an event loop of a thread of its own, and never in a patched process."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def guide_server(tmp_path_factory):
    """`demo/guide` runs what it is asked to: any command."""
    with Server.serve(tmp_path_factory.mktemp("attached"), OPENCODE_RATE_LIMIT="off") as server:
        yield server


@pytest.fixture
def terminals(guide_server):
    return Terminals(guide_server, f"screen{next(_numbers)}")
