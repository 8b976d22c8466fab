"""The start opens the page, where it is asked to; what the browser is given is written down by one of our own."""

import re
import shlex
import sys
import time
from pathlib import Path

import pytest

from opencode.server.desktop import has_desktop
from tests.live.client import Client
from tests.live.server import Server, until


@pytest.fixture
def browser(tmp_path):
    """The value of `BROWSER` for one that only notes its address, and where."""
    noted = tmp_path / "noted"
    program = tmp_path / "browser.py"
    program.write_text(f"import sys; open({str(noted)!r}, 'a').write(sys.argv[1] + chr(10))")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(program))} %s", noted


def opened(noted):
    return until(
        lambda: noted.exists() and noted.read_text().endswith("\n") and noted.read_text(), 30, "a browser"
    ).strip()


def test_the_page_is_opened_when_the_server_stands(tmp_path, browser):
    command, noted = browser
    with Server.serve(tmp_path / "home", "--open", BROWSER=command) as server:
        assert opened(noted) == f"http://localhost:{server.port}"
        server.says(rf"address +http://localhost:{server.port}\b")


def test_with_a_sign_in_the_code_is_on_no_command_line(tmp_path, browser):
    command, noted = browser
    with Server.serve(tmp_path / "home", "--open", "--auth", BROWSER=command) as server:
        given = opened(noted)
        assert given.startswith("file://")
        assert "code=" not in given
        way = Path(given.removeprefix("file://"))
        assert way.stat().st_mode & 0o077 == 0
        code = re.search(rf"url=http://localhost:{server.port}/#code=([\w.-]+)", way.read_text())[1]
        assert Client(server).call("POST", "/api/login", {"code": code}).status == 200


def test_it_is_not_opened_unasked_where_nobody_sits(tmp_path, browser):
    command, noted = browser
    with Server.serve(tmp_path / "home", BROWSER=command, DISPLAY=":0") as server:
        server.says("A first turn")
        began = time.monotonic()
        until(
            lambda: Client(server).call("GET", "/health").status == 200 and time.monotonic() > began + 0.5,
            30,
            "a while",
        )
        assert not noted.exists()


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
        ({}, "linux", False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({"SSH_CONNECTION": "1 2 3 4"}, "darwin", False),
    ],
)
def test_where_there_is_a_desktop(environ, platform, expected):
    assert has_desktop(environ, platform) is expected
