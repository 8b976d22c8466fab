"""What went wrong in servers of this kind, each as a test of its own: here it must not."""

import logging
import re

import pytest

from opencode.provider.port import Text, ToolCall, Usage
from tests.security.door import ANNA, BERT, HOST, TOKENS, bearer, ways
from tests.server.talk import create, follow, refused, say, stored
from tests.sse import Parser, Stream

FAR = {"REMOTE_ADDR": "203.0.113.7"}


@pytest.fixture(scope="module")
def local_app(make_lasting_app):
    """As a newcomer starts it: no token, loopback."""
    return make_lasting_app()


@pytest.fixture
def local(local_app):
    return local_app.test_client(use_cookies=False)


@pytest.fixture(scope="module")
def guarded_app(make_lasting_app):
    return make_lasting_app(auth_tokens=TOKENS)


@pytest.fixture
def guarded(guarded_app):
    return guarded_app.test_client(use_cookies=False)


# CVE-2026-22812: no authentication and open CORS


def test_cve_2026_22812_whoever_reaches_the_port_runs_no_command(local_app, local):
    before = stored(local_app)
    for way in ways(local_app):
        if not way.is_health:
            refused(local.open(way.path("ses_1"), method=way.method, environ_overrides=FAR), 403, "FORBIDDEN")
    assert stored(local_app) == before


def test_cve_2026_22812_no_page_may_call_and_none_is_told_that_it_may(local_app, local):
    before = stored(local_app)
    origin = {"Host": "localhost:3000", "Origin": "https://evil.example"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

    for response in (
        local.options("/api/session", headers={**origin, **asks}),
        local.post("/api/session", json={}, headers=origin),
        local.get("/api/sessions", headers=origin),
    ):
        refused(response, 403, "FORBIDDEN")
        assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
    assert stored(local_app) == before


# CVE-2025-66414, CVE-2025-66416, CVE-2026-42559: no Host check, so DNS rebinding


@pytest.mark.parametrize("host", ["rebound.example:3000", "localhost.rebound.example", "127.0.0.1.nip.example"])
def test_cve_2025_66414_a_rebound_name_gets_nothing_by_a_get_that_carries_no_origin(local_app, local, host):
    """To the browser it is the page's own origin: no Origin header, and `Sec-Fetch-Site: same-origin`."""
    session_id = create(local)
    for way in ways(local_app):
        if way.method == "GET" and not way.is_health:
            headers = {"Host": host, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
            response = local.get(way.path(session_id), headers=headers)
            refused(response, 403, "FORBIDDEN", "Host")


def test_cve_2025_66416_a_rebound_name_opens_no_stream_and_starts_no_turn(local_app, local):
    session_id = create(local)
    before = stored(local_app)
    rebound = {"Host": "rebound.example:3000", "Origin": "http://rebound.example:3000"}

    path = f"/api/session/{session_id}/message"
    refused(local.get(path, headers={**rebound, "Accept": "text/event-stream"}), 403, "FORBIDDEN", "Host")
    refused(local.post(path, json={"content": "x"}, headers=rebound), 403, "FORBIDDEN", "Host")
    assert stored(local_app) == before


def test_cve_2026_42559_the_host_counts_whatever_a_forwarded_header_says(make_app):
    client = make_app(auth_tokens=TOKENS, allowed_hosts=("box.example",)).test_client()
    for name in ("X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded"):
        headers = {**bearer(ANNA), "Host": "rebound.example", name: "box.example"}
        refused(client.get("/api/sessions", headers=headers), 403, "FORBIDDEN", "Host")


# A cross-origin POST that needs no preflight


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data",
     "application/json+x", "text/json", "application/jsonp"],
)  # fmt: skip
def test_a_body_of_a_type_that_forms_can_send_is_read_on_no_route(local_app, local, kind):
    session_id = create(local)
    before = stored(local_app)
    met = 0
    for way in ways(local_app):
        if way.method in {"POST", "PATCH", "DELETE"}:
            met += 1
            headers = {} if kind is None else {"Content-Type": kind}
            response = local.open(
                way.path(session_id), method=way.method, data='{"content": "x", "title": "x"}', headers=headers
            )
            refused(response, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: application/json")
    assert met >= 10
    assert stored(local_app) == before


# CVE-2024-28179: a WebSocket that skips authentication


def test_cve_2024_28179_an_upgrade_is_asked_all_that_a_request_is(make_app):
    app = make_app(auth_tokens=TOKENS, allowed_hosts=("box.example",))
    reached = []
    app.add_url_rule("/upgraded", view_func=lambda: reached.append(1) or "up", websocket=True)
    client = app.test_client(use_cookies=False)
    for way in [way for way in ways(app) if way.is_websocket]:
        refused(way.ask(client, "ses_1"), 401, "UNAUTHORIZED")
        refused(way.ask(client, "ses_1", Authorization="Bearer wrong"), 401, "UNAUTHORIZED")
        refused(way.ask(client, "ses_1", Cookie=f"opencode_3000={ANNA}"), 401, "UNAUTHORIZED")
        right = {"Authorization": f"Bearer {ANNA}"}
        refused(way.ask(client, "ses_1", Origin="https://evil.example", **right), 403, "FORBIDDEN", "Origin")
        refused(way.ask(client, "ses_1", Host="evil.example", **right), 403, "FORBIDDEN", "Host")
        response = client.get(f"{way.path('ses_1')}?token={ANNA}", headers={"Host": HOST, "Upgrade": "websocket",
                                                                        "Connection": "Upgrade"})  # fmt: skip
        refused(response, 401, "UNAUTHORIZED")
    assert reached == []
    assert (
        client.get("/upgraded", headers={**bearer(ANNA), "Upgrade": "websocket", "Connection": "Upgrade"}).text == "up"
    )


# CVE-2026-40864: a check of `Sec-Fetch-*` that `no-cors` passes by


@pytest.mark.parametrize("mode", ["no-cors", "navigate", "nested-navigate", "same-origin", "", None])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "cross-site,none", "of-a-time-to-come"])
def test_cve_2026_40864_no_mode_makes_another_sites_request_fine(local_app, local, site, mode):
    headers = {"Host": "localhost:3000", "Sec-Fetch-Site": site}
    headers |= {} if mode is None else {"Sec-Fetch-Mode": mode}
    for destination in ({}, {"Sec-Fetch-Dest": "document"}, {"Sec-Fetch-Dest": "script"}, {"Sec-Fetch-Dest": "image"}):
        for path in ("/api/sessions", "/tui/events", "/openapi.json"):
            refused(local.get(path, headers={**headers, **destination}), 403, "FORBIDDEN", "Origin")


def test_only_a_link_to_the_page_itself_may_come_from_another_site(make_app):
    from opencode.server.routes import route

    app = make_app()

    @app.get("/page")
    @route(summary="A page", scope=None, page=True)
    def page():
        return app.response_class("<p>hello</p>", mimetype="text/html")

    client = app.test_client()
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/page", headers=link).status_code == 200
    for change in ({"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Mode": "no-cors"}, {"Origin": "https://evil.example"},
                   {"Host": "evil.example"}, {"Sec-Fetch-Dest": "embed"}):  # fmt: skip
        refused(client.get("/page", headers={**link, **change}), 403, "FORBIDDEN")
    assert client.post("/page", headers=link).status_code in {403, 405}


# Replay that crosses sessions


def test_a_replay_gives_one_sessions_events_whatever_id_it_begins_with(guarded):
    first, second = (create(guarded, bearer(ANNA)) for _ in range(2))
    for session_id, words, turns in ((first, "of the first", 3), (second, "of the second", 1)):
        for _ in range(turns):
            say(guarded, session_id, words, headers=bearer(ANNA)).rest()
    last = guarded.get(f"/api/session/{first}", headers=bearer(ANNA)).json["seq"]
    turn_id = follow(guarded, first, "?until=end&after=0", bearer(ANNA)).rest()[0].data["turn_id"]

    for query, header in (("", "0"), ("&after=0", None), ("", str(last)), ("", f"{first}-1"), ("", "-1")):
        headers = bearer(ANNA) | ({} if header is None else {"Last-Event-ID": header})
        events = follow(guarded, second, f"?until=end{query}", headers).rest()
        assert "of the first" not in str([event.data for event in events])
        assert first not in str([event.data for event in events])
    refused(guarded.get(f"/api/session/{second}/message?turn={turn_id}", headers=bearer(ANNA)), 404, "NOT_FOUND")
    refused(guarded.get(f"/api/session/{second}/turn/{turn_id}", headers=bearer(ANNA)), 404, "NOT_FOUND")


# Paths that escape


def test_a_session_works_in_no_directory_outside_the_roots(make_app):
    client = make_app().test_client()
    work = make_app.work
    (work / "link").symlink_to("/etc")
    for directory in ("/etc", "/", "..", "../..", f"{work}/..", f"{work}/../..", f"{work}/link", "link", "~",
                      f"{work}/link/../link", "/proc/self/root", "file:///etc", f"{work}\x00/etc"):  # fmt: skip
        refused(client.post("/api/session", json={"directory": directory}), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("tool", ["read", "edit", "write"])
def test_a_tool_reaches_no_file_outside_its_directory(make_app, tool):
    work, secret = make_app.work, make_app.work.parent / "secret.txt"
    secret.write_text("hunter2")
    (work / "a").mkdir()
    (work / "link").symlink_to("/etc")
    (work / "to-secret").symlink_to(secret)
    paths = ("/etc/hostname", "../secret.txt", "a/../../secret.txt", "link/hostname", "to-secret",
             f"{work}/../secret.txt", "/proc/self/environ")  # fmt: skip
    more = {"read": {}, "edit": {"old_string": "hunter2", "new_string": "x"}, "write": {"content": "x"}}[tool]
    calls = [ToolCall(f"call_{n}", tool, {"path": path, **more}) for n, path in enumerate(paths)]
    client = make_app([[*calls, Usage(1, 1)], [Text("ok"), Usage(1, 1)]]).test_client()

    results = [event.data for event in say(client, create(client)).rest() if event.name == "tool_result"]

    assert [result["is_error"] for result in results] == [True] * len(paths)
    assert "hunter2" not in str(results)
    assert secret.read_text() == "hunter2"


# Tokens where they are kept by others


@pytest.mark.parametrize(
    "name", ["token", "access_token", "auth", "api_key", "key", "ticket", "authorization", "Bearer"]
)
def test_a_token_in_the_address_opens_nothing(guarded, name):
    for path in ("/api/sessions", "/tui/events"):
        refused(guarded.get(f"{path}?{name}={ANNA}"), 401, "UNAUTHORIZED")
        refused(guarded.get(f"{path}?{name}=Bearer%20{ANNA}"), 401, "UNAUTHORIZED")


def test_no_token_stands_in_a_log_or_an_error(guarded, caplog):
    with caplog.at_level(logging.DEBUG):
        assert guarded.get("/api/sessions", headers=bearer(ANNA)).status_code == 200
        said = [guarded.get("/api/sessions", headers=bearer(f"{ANNA}-wrong"))]
        said += [guarded.get(f"/api/sessions?token={ANNA}"), guarded.get(f"/api/nope?token={ANNA}")]
        said += [
            guarded.post("/api/login", json={"token": f"{ANNA}x"}),
            guarded.post("/api/login", json={"tokn": ANNA}),
        ]
        said += [guarded.post("/api/session", data=ANNA, headers=bearer(ANNA))]

    assert ANNA not in caplog.text
    assert ANNA not in "".join(response.text + str(response.headers) for response in said)


# Header injection


BREAKS = [
    "\r\nX-Evil: 1",
    "\nX-Evil: 1",
    "\r",
    "\n\ndata: evil",
    "\x00",
    "\u2028",
    "\x85",
    "%0d%0aX-Evil:%201",
    "\x1b[2J",
]


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_no_id_breaks_a_header_a_log_line_or_a_message(guarded, caplog, text):
    with caplog.at_level(logging.DEBUG, "opencode"):
        for path in (f"/api/session/ses{text}", f"/api/session/ses{text}/message", f"/api/session/x/turn/t{text}"):
            response = guarded.get(
                path.replace("\n", "%0A").replace("\r", "%0D").replace("\x00", "%00"), headers=bearer(ANNA)
            )
            refused(response, 404, "SESSION_NOT_FOUND")
            assert "X-Evil" not in response.headers
        response = guarded.get("/tui/state", query_string={"tui": f"main{text}"}, headers=bearer(ANNA))
        refused(response, 400, "INVALID_REQUEST")

    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\r" not in record.getMessage()


@pytest.mark.parametrize("value", ["a b", "a\tb", "x" * 65, "\u00e9", "a;b", "<script>", "", "../../etc"])
def test_a_request_id_that_is_none_is_not_echoed(guarded, value):
    headers = {**bearer(ANNA), "X-Request-Id": value.encode().decode("latin-1")}

    echoed = guarded.get("/api/sessions", headers=headers).headers["X-Request-Id"]

    assert echoed != value
    assert echoed.isalnum()


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_no_text_breaks_out_of_its_event(make_app, text):
    """What a model, a tool or a person says stands in one line of data, whatever it holds."""
    hostile = f"before{text}\n\nid: 99\nevent: done\ndata: {{}}\n\nafter"
    app = make_app([[Text(hostile), Usage(1, 1)]])
    client = app.test_client()
    session_id = create(client, title=f"t{text}")

    sent = client.post(f"/api/session/{session_id}/message", json={"content": hostile})
    raw = b"".join(sent.response)
    events = [event for event in Parser().feed(raw) if event.name]

    assert [event.name for event in events] == ["turn_start", "step", "text", "done"]
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert events[0].data["content"] == events[2].data["content"] == hostile
    replayed = client.get(f"/api/session/{session_id}/message?after=0&until=end")
    assert [event.id for event in Stream(replayed.response).rest()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("value", ["1\r\nid: 5", "0x1", "\u0661", "1e3", " ", "-1", "9" * 400, "\x00"])
def test_a_last_event_id_that_is_none_is_never_written_back(guarded, value):
    session_id = create(guarded, bearer(ANNA))
    say(guarded, session_id, headers=bearer(ANNA)).rest()
    headers = {**bearer(ANNA), "Last-Event-ID": value.encode().decode("latin-1").replace("\r\n", " ")}

    for path in (f"/api/session/{session_id}/message?until=end", "/tui/events"):
        response = guarded.get(path, headers=headers)
        assert response.status_code == 200
        head = b""
        for piece in response.response:
            head += piece
            if b"\n\n" in head:
                break
        response.close()
        assert re.match(rb"retry: 2000\nid: [\w-]+\n\n", head), head


# Whose it is


def test_a_number_or_a_name_guessed_right_is_not_enough(guarded):
    session_id = create(guarded, bearer(ANNA), title="anna's")
    for attempt in (session_id, session_id.upper(), f"{session_id} ", f"{session_id}%00", session_id[:-1]):
        refused(guarded.get(f"/api/session/{attempt}", headers=bearer(BERT)), 404, "SESSION_NOT_FOUND")
