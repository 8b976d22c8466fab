"""The configuration of docs/how-to/nginx.md, in a real nginx in front of a real server: only addresses are others."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess

import pytest
from websockets.sync.client import connect

from tests.live.server import ROOT, Server, free_port, until
from tests.sse import Parser
from tests.wire.certificate import make_certificate

pytestmark = pytest.mark.live

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
TOKEN = "a-token-of-sixteen-characters-or-more"
HOST = "agent.example"
BEARER = {"Authorization": f"Bearer {TOKEN}", "Host": HOST, "Content-Type": "application/json"}
_AROUND = """
daemon off;
{user}
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {page}
}}
"""


class Front:
    """What clients see of it."""

    def __init__(self, port, context):
        self.port = port
        self.context = context

    def opened(self):
        return contextlib.closing(http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.context))

    def ask(self, method, path, body=None, headers=BEARER):
        with self.opened() as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def answers(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/health")[0] == 200
        return False


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """An nginx as the page has it."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    place = tmp_path_factory.mktemp("nginx")
    [page] = re.findall(r"^```nginx\n(.*?)^```", (ROOT / "docs/how-to/nginx.md").read_text(), re.MULTILINE | re.DOTALL)
    certificate, key = make_certificate(place)
    variables = {"OPENCODE_TRUSTED_PROXIES": 1, "OPENCODE_PUBLIC_URL": f"https://{HOST}"}
    with Server.serve(place / "home", OPENCODE_AUTH_TOKENS=TOKEN, **variables) as server:
        port = free_port()
        page = page.replace("127.0.0.1:3000", f"127.0.0.1:{server.port}").replace("443", f"127.0.0.1:{port}")
        page = page.replace("/etc/ssl/agent.example.pem", str(certificate))
        page = page.replace("/etc/ssl/agent.example.key", str(key))
        # Else its workers are nobody, who may write nothing here.
        user = "user root;" if os.geteuid() == 0 else ""
        (place / "nginx.conf").write_text(_AROUND.format(place=place, page=page, user=user))
        found = Front(port, ssl.create_default_context(cafile=certificate))
        with subprocess.Popen([NGINX, "-p", place, "-c", place / "nginx.conf"], stderr=subprocess.DEVNULL) as nginx:
            try:
                until(found.answers, 30, (place / "error.log").read_text)
                yield found
            finally:
                nginx.terminate()


def test_a_turn_streams_as_it_comes(front):
    _, session = front.ask("POST", "/api/session", {})
    path = f"/api/session/{session['session_id']}/message"
    with front.opened() as connection:
        connection.request("POST", path, json.dumps({"content": "run sleep 2; echo awake"}), BEARER)
        response = connection.getresponse()
        seen, parser, running = [], Parser(), None
        while not seen or seen[-1].name != "done":
            seen += parser.feed(response.read1())
            if running is None and any(event.name == "tool_call" for event in seen):
                running = [event.name for event in seen]

    assert "tool_result" not in running, "what was there before the command ended came before it ended"
    assert seen[-1].data["status"] == "completed"


def test_websockets_pass(front):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        socket.create_connection(("127.0.0.1", front.port), 60) as own,
        connect(
            f"wss://{HOST}/ws", sock=own, ssl=front.context, server_hostname="127.0.0.1", additional_headers=headers
        ) as ws,
    ):
        ws.send('{"type": "ping"}')
        assert json.loads(ws.recv(timeout=60))["type"] == "pong"


def test_without_the_token_and_under_another_name_nobody_is_let_in(front):
    status, refused = front.ask("GET", "/api/sessions", headers={"Host": HOST})
    assert (status, refused["error"]["code"]) == (401, "UNAUTHORIZED")

    status, refused = front.ask("GET", "/api/sessions", headers=BEARER | {"Host": "elsewhere.example"})
    assert (status, refused["error"]["code"]) == (403, "FORBIDDEN")


def test_what_is_too_large_is_refused_by_the_server(front):
    status, refused = front.ask("POST", "/api/session", {"title": "x" * 1_200_000})

    assert (status, refused["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
