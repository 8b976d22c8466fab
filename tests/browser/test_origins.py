"""A page on another origin, in a real browser: it cannot create a session or read a stream; one that CORS allows can."""

import functools
import http.server
import threading

import pytest

from tests.live.client import Client
from tests.live.server import Server, side_by_side, until

TOKEN = "ann-token-0123456789"


class Blank(http.server.BaseHTTPRequestHandler):
    """A page with nothing on it, and nothing forbidden: what it does, each test says."""

    def do_GET(self):
        body = b"<!doctype html><title>a page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.fixture(scope="module")
def pages():
    """The addresses of two pages on origins of their own: one that CORS allows, one that it does not."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) for _ in range(2)]
    threads = [threading.Thread(target=functools.partial(own.serve_forever, poll_interval=0.05)) for own in servers]
    for thread in threads:
        thread.start()
    yield [f"http://127.0.0.1:{own.server_port}" for own in servers]
    for own in servers:
        own.shutdown()
        own.server_close()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def servers(tmp_path_factory, pages):
    """All at once, since each of them needs its time to start."""
    home = tmp_path_factory.mktemp("servers")
    allowed = {"OPENCODE_AUTH_TOKENS": f"ann:{TOKEN}", "OPENCODE_CORS_ORIGINS": pages[0]}
    servers = {
        "local": Server.serve(home / "local", OPENCODE_RATE_LIMIT="off"),
        "guarded": Server.serve(home / "guarded", token=TOKEN, OPENCODE_RATE_LIMIT="off", **allowed),
        "linked": Server.serve(home / "linked", "--auth", OPENCODE_RATE_LIMIT="off"),
    }
    with side_by_side(servers):
        yield servers


@pytest.fixture
def local(servers):
    """As a newcomer starts it: no token, no CORS."""
    return servers["local"]


@pytest.fixture
def guarded(servers):
    """With a token, and one page allowed to call."""
    return servers["guarded"]


@pytest.fixture
def linked(servers):
    """With the token and the sign-in link that it made for itself."""
    return servers["linked"]


#: Each resolves to what the page got to see of the answer: its status and text, or "blocked".
SHOWN = "answer => answer.text().then(text => answer.type + ' ' + answer.status + ' ' + text), () => 'blocked'"
FETCH = f"([url, options]) => fetch(url, options).then({SHOWN})"
#: The first thing that an EventSource tells: an event's name and data, or that it was refused for good.
STREAM = """([url, names]) => new Promise(resolve => {
    const source = new EventSource(url);
    const end = text => { source.close(); resolve(text); };
    for (const name of names) source.addEventListener(name, event => end(name + ' ' + event.data));
    source.onerror = () => source.readyState === EventSource.CLOSED && end('refused');
})"""
FORM = """url => new Promise(resolve => {
    const frame = Object.assign(document.createElement('iframe'), {name: 'sink'});
    const form = Object.assign(document.createElement('form'), {
        method: 'POST', action: url, enctype: 'text/plain', target: 'sink'});
    form.append(Object.assign(document.createElement('input'), {name: '{"title": "by a form', value: '"}'}));
    frame.onload = () => resolve('loaded');
    document.body.append(frame, form);
    form.submit();
})"""


def sessions(server):
    return Client(server).call("GET", "/api/sessions").json["sessions"]


def at(server):
    return f"http://localhost:{server.port}"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_a_foreign_page_creates_no_session_by_fetch(page, pages, local, kind, mode):
    before = sessions(local)
    page.goto(pages[1])

    options = {"method": "POST", "mode": mode, "body": "{}", "headers": {"Content-Type": kind} if kind else {}}
    seen = page.evaluate(FETCH, [f"{at(local)}/api/session", options])

    assert seen in {"blocked", "opaque 0 "}, "the page must not see the answer"
    assert sessions(local) == before


def test_a_foreign_page_creates_no_session_by_a_form(page, pages, local):
    before = sessions(local)
    page.goto(pages[1])
    with page.expect_response(f"{at(local)}/api/session") as answered:
        page.evaluate(FORM, f"{at(local)}/api/session")

    assert answered.value.status == 403
    assert sessions(local) == before


def test_a_foreign_page_reads_no_stream_no_session_and_no_document(page, pages, local):
    session = Client(local).session(title="not for others")
    page.goto(pages[1])

    stream = f"{at(local)}/api/session/{session}/message?after=0"
    assert page.evaluate(STREAM, [stream, ["turn_start", "message"]]) == "refused"
    assert page.evaluate(STREAM, [f"{at(local)}/tui/events", ["prompt"]]) == "refused"
    for path in (f"/api/session/{session}", "/api/sessions", "/openapi.json"):
        assert page.evaluate(FETCH, [f"{at(local)}{path}", {}]) == "blocked"
        assert page.evaluate(FETCH, [f"{at(local)}{path}", {"mode": "no-cors"}]) in {"blocked", "opaque 0 "}


def test_the_servers_own_origin_may(page, local):
    """What the browser itself says of a page of this server is let in: its Host, its Origin, its Sec-Fetch-*."""
    page.goto(f"{at(local)}/health")

    options = {"method": "POST", "body": "{}", "headers": {"Content-Type": "application/json"}}
    assert page.evaluate(FETCH, [f"{at(local)}/api/session", options]).startswith("basic 200 ")


def test_a_foreign_page_gets_nowhere_with_a_token_either(page, pages, guarded):
    before = sessions(guarded)
    page.goto(pages[1])
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    options = {"method": "POST", "body": "{}", "headers": headers}
    assert page.evaluate(FETCH, [f"{at(guarded)}/api/session", options]) == "blocked"
    ticket = Client(guarded).call("POST", "/api/ticket", {"path": "/tui/events"}, {"Host": f"localhost:{guarded.port}"})
    stream = f"{at(guarded)}/tui/events?ticket={ticket.json['ticket']}"
    assert page.evaluate(STREAM, [stream, ["prompt"]]) == "refused"
    assert sessions(guarded) == before


def test_an_allowed_page_creates_a_session_and_follows_it_by_a_ticket(page, pages, guarded):
    page.goto(pages[0])
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def post(path, body):
        return page.evaluate(
            "([url, options]) => fetch(url, options).then(answer => answer.json())",
            [f"{at(guarded)}{path}", {"method": "POST", "headers": headers, "body": body}],
        )

    session = post("/api/session", "{}")["session_id"]
    path = f"/api/session/{session}/message"
    stream = f"{at(guarded)}{path}?after=0"
    assert page.evaluate(STREAM, [stream, ["turn_start"]]) == "refused", "without a ticket"
    ticket = post("/api/ticket", f'{{"path": "{path}"}}')["ticket"]
    client = Client(guarded)
    client.turn(session, "run pwd")

    seen = page.evaluate(STREAM, [f"{stream}&ticket={ticket}", ["turn_start"]])

    assert seen.startswith("turn_start ")
    assert '"content":"run pwd"' in seen
    assert page.evaluate(STREAM, [f"{at(guarded)}/tui/events?ticket={ticket}", ["prompt"]]) == "refused", "another path"
    assert page.evaluate(FETCH, [f"{at(guarded)}/api/sessions", {}]).startswith("cors 401 ")
    assert ticket not in guarded.output()


def test_a_browser_signs_in_by_the_printed_link_follows_and_signs_out(page, linked):
    code = linked.says(r"sign in +http://localhost:\d+/#code=(\S+)")[1]
    page.goto(f"{at(linked)}/health")  # the place of a page that is to come: the same origin
    json = {"Content-Type": "application/json"}
    login = {"method": "POST", "body": f'{{"code": "{code}"}}', "headers": json}
    create = {"method": "POST", "body": "{}", "headers": json}

    assert page.evaluate(FETCH, ["/api/sessions", {}]).startswith("basic 401 ")
    assert page.evaluate(FETCH, ["/api/login", login]).startswith("basic 200 ")
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (f"opencode_{linked.port}", True, "Strict")
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate(FETCH, ["/api/session", create]).startswith("basic 200 ")
    page.evaluate("window.told = []; window.source = new EventSource('/tui/events')")
    page.evaluate("source.addEventListener('session_created', event => told.push(event.data))")
    until(lambda: page.evaluate("source.readyState") == 1, 30, "the stream to open")
    assert page.evaluate(FETCH, ["/api/session", create]).startswith("basic 200 ")
    until(lambda: page.evaluate("told.length"), 30, "the session to be told of")
    page.evaluate("source.close()")
    assert page.evaluate(FETCH, ["/api/login", login]).startswith("basic 401 "), "a code is good once"

    assert page.evaluate(FETCH, ["/api/logout", create]).startswith("basic 200 ")
    assert page.context.cookies() == []
    page.context.add_cookies([cookie])
    assert page.evaluate(FETCH, ["/api/sessions", {}]).startswith("basic 401 "), "ended at the server too"
    assert code not in linked.stderr()
