"""`opencode attach` as people type it, as far as it gets without a terminal."""

import socket
import sys

import pytest

from tests.cli.test_cli import opencode, refused
from tests.live.server import Server, free_port, run

__all__ = ["opencode"]

NO_TEXTUAL = "import sys; sys.modules['textual'] = None; from opencode.cli.main import main; main(['attach'])"


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://localhost", "http://", "http://tok@localhost:3000"])
def test_a_bad_address_is_refused_with_its_form(opencode, url):
    said = refused(opencode("attach", url), 2)
    assert "http://localhost:3000" in said or "OPENCODE_TOKEN" in said


def test_where_nothing_listens_the_way_to_start_a_server_is_named(opencode):
    said = refused(opencode("attach", f"http://127.0.0.1:{free_port()}"))
    assert "No server answers" in said
    assert "opencode serve" in said


def test_something_else_that_listens_is_told_from_a_server(opencode):
    with socket.create_server(("127.0.0.1", 0)) as other:
        import threading

        def answer():
            connection, _ = other.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhtml")

        thread = threading.Thread(target=answer)
        thread.start()
        said = refused(opencode("attach", f"http://127.0.0.1:{other.getsockname()[1]}"))
        thread.join()
    assert "not as an OpenCode server does" in said


def test_without_textual_the_command_that_installs_it_is_named(tmp_path):
    said = refused(run([sys.executable, "-c", NO_TEXTUAL], tmp_path))
    assert "pip install 'opencode-server[tui]'" in said


def test_help_names_the_variable_and_no_flag_takes_a_token(opencode):
    said = opencode("attach", "--help").stdout
    assert "OPENCODE_TOKEN" in said
    assert "--token" not in said


@pytest.mark.parametrize("token", ["tök", "a\nb", "a\x1bb"])
def test_a_token_that_can_be_none_is_refused_without_being_shown(opencode, token):
    said = refused(opencode("attach", f"http://127.0.0.1:{free_port()}", OPENCODE_TOKEN=token))
    assert "printable ASCII" in said
    assert token not in said


@pytest.mark.live
def test_a_token_is_asked_for_or_refused(opencode, tmp_path):
    with Server.serve(tmp_path / "server", "--auth", OPENCODE_AUTH_TOKENS="right-1") as server:
        url = f"http://127.0.0.1:{server.port}"
        assert "Set OPENCODE_TOKEN" in refused(opencode("attach", url))
        wrong = refused(opencode("attach", url, OPENCODE_TOKEN="wrong-1"))
        assert "does not know this token" in wrong
        assert "wrong-1" not in wrong
        # A right one leads on to the next thing that is missing here.
        assert "needs a terminal" in refused(opencode("attach", url, OPENCODE_TOKEN="right-1"))
