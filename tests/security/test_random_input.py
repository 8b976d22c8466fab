"""Whatever comes in by path, query, headers and body of any route: never a 500, never an answer outside the envelope."""

import json
import os
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.door import ANNA, LEAST, TOKENS, Way, ways
from tests.server.talk import create, refused

EXAMPLES = 15
#: The same examples in every run of CI: what fails there fails here.
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=list(HealthCheck),
)

AWKWARD = st.sampled_from(
    [
        "",
        " ",
        "..",
        "../..",
        "null",
        "0",
        "-1",
        "1e400",
        "9" * 30,
        "\x00",
        "a\r\nb: c",
        "\u2028",
        "é",
        "😀",
        "%",
        "%00",
        "{}",
    ]
)
TEXTS = AWKWARD | st.text(max_size=30)
RAW = st.binary(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["content", "model", "tools", "directory", "title", "system", "permission", "when_busy", "message_id", "turn_id",
     "response", "type", "key", "text", "command", "path", "code", "token"]
)  # fmt: skip
QUERIES = st.sampled_from(["limit", "cursor", "q", "before", "after", "until", "turn", "tui", "ticket"]) | TEXTS
HEADERS = st.sampled_from(
    ["Last-Event-ID", "Accept", "Prefer", "Idempotency-Key", "X-Request-Id", "Content-Encoding", "Transfer-Encoding",
     "Range", "If-None-Match", "Cookie", "X-HTTP-Method-Override", "Expect", "Upgrade", "Connection", "Accept-Language",
     "Authorization", "Origin", "Host", "Sec-Fetch-Site", "Content-Length", "X-Forwarded-For", "Referer"]
)  # fmt: skip
#: What a server under us lets through in a header: no line break and no NUL.
HEADER_TEXTS = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=40) | st.sampled_from(
    [
        "application/json",
        "text/event-stream;q=0.1, */*;q=nan",
        "respond-async",
        "bytes=0-1",
        "websocket",
        "chunked",
        "0",
    ]
)


@pytest.fixture(scope="module")
def app(make_lasting_app):
    return make_lasting_app(auth_tokens=TOKENS, max_body_bytes=2000)


@pytest.fixture(scope="module")
def session_id(app):
    return create(app.test_client(), {"Authorization": f"Bearer {ANNA}"})


@st.composite
def bodies(draw, way: Way) -> bytes:
    """Bytes, JSON of any kind, or the right fields with wrong values."""
    least = LEAST.get(way.model, {})
    fields = st.dictionaries(FIELDS | TEXTS, VALUES, max_size=4).map(lambda own: {**least, **own})
    return draw(RAW | (VALUES | fields).map(lambda own: json.dumps(own).encode()) | st.just(b"x" * 3000))


@st.composite
def paths(draw, way: Way, session_id: str) -> str:
    """The route's path with awkward ids in it, or the right session."""
    path = way.rule
    while "<" in path:
        before, _, rest = path.partition("<")
        name, _, after = rest.partition(">")
        given = st.just(session_id) if name == "session_id" else st.nothing()
        path = before + draw(given | TEXTS.map(quote) | RAW.map(quote_from_bytes)) + after
    query = draw(st.dictionaries(QUERIES, TEXTS, max_size=3).map(urlencode) | RAW.map(quote_from_bytes))
    return f"{path}?{query}" if query else path


def send(app, path: str, **options):
    """Send it as a server under us would hand it on; the test client itself takes `//` for a host."""
    place, _, query = path.partition("?")
    environ = {"PATH_INFO": unquote_to_bytes(place).decode("latin-1"), "QUERY_STRING": query}
    return app.test_client(use_cookies=False).open("/", environ_overrides=environ, **options)


KINDS = {"application/json", "text/event-stream", "text/html", "text/plain", "text/javascript", "text/css"}


def check(response, method: str) -> None:
    status = response.status_code
    assert status < 500, (status, response.text[:500])
    if status < 400:
        assert response.mimetype in KINDS or status == 204
    elif method != "HEAD":
        refused(response, status, response.json["error"]["code"])
    assert "Traceback" not in (response.text if response.mimetype == "application/json" else "")


def try_one(app, way: Way, session_id: str, data) -> None:
    """One request with what `data` draws. The body of a follow has no end: it is closed unread."""
    headers = {"Authorization": f"Bearer {ANNA}", "Accept": "application/json"}
    headers |= data.draw(st.dictionaries(HEADERS, HEADER_TEXTS, max_size=3))
    kind = data.draw(st.sampled_from(["application/json", "application/json", "text/plain", ""]))
    body = data.draw(bodies(way)) if way.method != "GET" or data.draw(st.booleans()) else b""
    method = data.draw(st.sampled_from([way.method] * 8 + ["HEAD", "OPTIONS", "PUT", "TRACE", "BREW"]))
    path = data.draw(paths(way, session_id))
    response = send(app, path, method=method, data=body, content_type=kind, headers=headers)
    try:
        check(response, method)
    finally:
        response.close()


def test_no_input_breaks_a_route(app, session_id):
    tried = []
    for way in ways(app):

        @SETTINGS
        @given(st.just(way), st.data())
        def attempt(way, data):
            tried.append(way)
            try_one(app, way, session_id, data)

        attempt()
    assert len(tried) > EXAMPLES * 10
    assert app.test_client().get("/health/ready").status_code == 200


@SETTINGS
@given(RAW.map(quote_from_bytes) | TEXTS.map(quote), st.sampled_from(["GET", "POST", "DELETE", "PATCH", "LINK"]))
def test_no_path_beside_the_routes_breaks_anything(app, path, method):
    for prefix in ("/", "/api/", "/api/session/x/", "/tui/", "//", "/%2e%2e/"):
        response = send(app, prefix + path, method=method, headers={"Authorization": f"Bearer {ANNA}"})
        check(response, method)
        response.close()
