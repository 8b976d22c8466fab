"""`opencode serve` when it does start, and when another has its store."""

import re

import pytest

from tests.live.client import Client
from tests.live.server import Server

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("serve")
    work = home / "work"
    work.mkdir()
    # Were the served directory a place to import from, this file would stop the server.
    (work / "json.py").write_text("raise SystemExit('the served directory was imported from')\n")
    (work / "opencode.toml").write_text('log_level = "info"\nno_such_setting = 1\n')
    server = Server.serve(home, "--auth", "--model", "demo/guide", OPENCODE_MODEL="openai/x", OPENCODE_NONSENSE="1")
    try:
        yield server.start().ready()
    finally:
        server.kill()


def test_flags_go_before_the_environment(server):
    token = server.says(r"with the token (\S+)")[1]

    assert Client(server).call("GET", "/api/sessions").status == 401
    assert Client(server, token=token).call("GET", "/api/models").json["default"] == "demo/guide"
    assert f"directory  {server.work}" in server.stdout()


def test_what_is_set_and_unknown_is_warned_of(server):
    server.says(r"OPENCODE_NONSENSE is not a setting of this version; it has no effect")
    server.says(r"opencode\.toml: no_such_setting is not a setting of this version; it has no effect")


def test_a_second_server_on_the_same_data_names_the_first(server, tmp_path):
    second = Server.serve(tmp_path, OPENCODE_DATA_DIR=server.home / "data").start()
    try:
        # It waits a while first: a server that is just stopping gives the store up.
        assert second.wait(20) != 0
    finally:
        second.kill()
    said = second.stderr()
    assert f"The data folder {server.home / 'data'} is in use by process {server.workers()[0]}." in said
    assert "OPENCODE_DATA_DIR" in said
    assert not re.search("Traceback", said), said
