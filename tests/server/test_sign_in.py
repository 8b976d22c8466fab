"""How browsers come in: tickets for streams, cookies for the page, the printed link's code (API section 8)."""

import logging
import re

import pytest

from opencode.provider.port import Text, ToolCall, Usage
from tests.server.talk import create, refused, say, store_out_of_reach, stored
from tests.sse import Stream

ANNA, BERT = "anna-secret-1", "bert-secret-2"
TOKENS = (f"anna:{ANNA}", f"bert:{BERT}", "anna:read:eyes-only-3", "anna:approve:approver-4")
HOST = "box.example:3000"
OWN = {"Host": HOST, "Origin": f"http://{HOST}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Host": HOST}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def app(make_lasting_app, clock):
    return make_lasting_app(auth_tokens=TOKENS, clock=clock)


@pytest.fixture
def client(app):
    """Keeps no cookies: each test shows them itself."""
    return app.test_client(use_cookies=False)


def ticket_for(client, path, token=ANNA, **headers):
    response = client.post("/api/ticket", json={"path": path}, headers={**bearer(token), **headers})
    assert response.status_code == 200, response.text
    assert response.json["expires_in"] == 60
    assert response.headers["Cache-Control"] == "no-store"
    return response.json["ticket"]


def opened(client, path, ticket, **headers):
    response = client.get(f"{path}?ticket={ticket}&until=end", headers={"Host": HOST, **headers})
    response.close()
    return response


def cookie_of(response):
    """The one cookie that a response sets: what goes back to the server, and its attributes."""
    assert response.status_code == 200, response.text
    (line,) = response.headers.getlist("Set-Cookie")
    pair, *attributes = line.split("; ")
    return pair, set(attributes)


def signed_in(client, token=ANNA, **headers):
    return cookie_of(client.post("/api/login", json={"token": token}, headers={**OWN, **headers}))[0]


# Tickets


def test_a_ticket_opens_the_stream_that_it_is_for_without_the_header(client):
    session_id = create(client, bearer(ANNA))
    say(client, session_id, headers=bearer(ANNA)).rest()
    path = f"/api/session/{session_id}/message"
    ticket = ticket_for(client, path)

    response = client.get(f"{path}?ticket={ticket}&until=end", headers={"Host": HOST})

    assert response.status_code == 200
    assert Stream(response.response).rest()[-1].name == "done"
    assert re.fullmatch(r"[\w.-]{60,400}", ticket, re.ASCII), "it must fit into an address as it is"
    for secret in (ANNA, "anna"):
        assert secret not in ticket


def test_a_ticket_is_for_a_get_of_one_path_at_one_host_only(client):
    session_id, other = create(client, bearer(ANNA)), create(client, bearer(ANNA))
    path = f"/api/session/{session_id}/message"
    ticket = ticket_for(client, path)

    for elsewhere in (f"/api/session/{other}/message", f"/api/session/{session_id}", "/api/sessions", "/tui/events"):
        refused(opened(client, elsewhere, ticket), 401, "UNAUTHORIZED", "ticket")
    for host in ("other.example:3000", "box.example", "box.example:3001", "127.0.0.1:3000"):
        refused(opened(client, path, ticket, Host=host), 401, "UNAUTHORIZED")
    address = f"{path}?ticket={ticket}"
    refused(client.post(address, json={"content": "x"}, headers={"Host": HOST}), 401, "UNAUTHORIZED")
    refused(client.delete(f"/api/session/{session_id}?ticket={ticket}", headers={"Host": HOST}), 401, "UNAUTHORIZED")
    body = {"path": path}
    refused(client.post(f"/api/ticket?ticket={ticket}", json=body, headers={"Host": HOST}), 401, "UNAUTHORIZED")
    assert client.get(f"/api/session/{session_id}", headers=bearer(ANNA)).json["message_count"] == 0
    assert opened(client, path, ticket).status_code == 200


def test_a_ticket_says_nothing_about_others_sessions_and_opens_none(client):
    path = f"/api/session/{create(client, bearer(BERT))}/message"

    refused(opened(client, path, ticket_for(client, path)), 404, "SESSION_NOT_FOUND")
    assert opened(client, path, ticket_for(client, path, BERT)).status_code == 200


def test_a_ticket_has_the_scopes_of_its_token(client):
    path = f"/api/session/{create(client, bearer(ANNA))}/message"

    assert opened(client, path, ticket_for(client, path, "eyes-only-3")).status_code == 200
    refused(client.post("/api/ticket", json={"path": path}, headers=bearer("approver-4")), 403, "FORBIDDEN", "read")


def test_a_ticket_is_good_for_a_minute_and_for_reconnects_of_its_stream_for_twelve_hours(client, clock):
    path = f"/api/session/{create(client, bearer(ANNA))}/message"
    ticket, unopened = ticket_for(client, path), ticket_for(client, path)
    begun = clock.now

    clock.now = begun + 60
    assert opened(client, path, ticket).status_code == 200
    clock.now = begun + 61
    refused(opened(client, path, ticket), 401, "UNAUTHORIZED", "its time is over")
    refused(opened(client, path, unopened, **{"Last-Event-ID": "0"}), 401, "UNAUTHORIZED")
    for later in (61, 3600, 12 * 3600):
        clock.now = begun + later
        assert opened(client, path, ticket, **{"Last-Event-ID": "0"}).status_code == 200
    clock.now = begun + 12 * 3600 + 1
    refused(opened(client, path, ticket, **{"Last-Event-ID": "0"}), 401, "UNAUTHORIZED")


def test_a_ticket_of_a_time_to_come_is_none(client, clock):
    path = f"/api/session/{create(client, bearer(ANNA))}/message"
    clock.now += 3600
    ticket = ticket_for(client, path)
    clock.now -= 3600

    refused(opened(client, path, ticket), 401, "UNAUTHORIZED")


LESS = (f"bert:{BERT}", "anna:read:eyes-only-3", "anna:another-token-of-hers")


@pytest.mark.parametrize(("tokens", "status"), [(TOKENS, 200), (LESS, 401)])
def test_tickets_and_cookies_outlive_a_restart_and_die_with_their_token(make_app, clock, tokens, status):
    app = make_app(auth_tokens=TOKENS, clock=clock)
    client = app.test_client(use_cookies=False)
    path = f"/api/session/{create(client, bearer(ANNA))}/message"
    ticket, cookie = ticket_for(client, path), signed_in(client)
    ended = signed_in(client)
    assert client.post("/api/logout", headers={**OWN, "Cookie": ended}).status_code == 200
    assert opened(client, path, ticket).status_code == 200
    clock.now += 100
    make_app.stop(app)

    again = make_app(auth_tokens=tokens, clock=clock, data_dir=app.extensions["opencode"].settings.data_dir)

    client = again.test_client(use_cookies=False)
    assert client.get("/api/sessions", headers={"Host": HOST, "Cookie": cookie}).status_code == status
    assert client.get("/api/sessions", headers={"Host": HOST, "Cookie": ended}).status_code == 401
    assert opened(client, path, ticket, **{"Last-Event-ID": "0"}).status_code == status


@pytest.mark.parametrize(
    "ticket",
    ["", "x", "a.b.c", "." * 30, "é", "x" * 7_000, "%00", ANNA, f"anna:{ANNA}", "null", "%ff%fe", "a%0d%0ab"],
)
def test_what_is_no_ticket_of_ours_lets_nobody_in(client, ticket):
    path = f"/api/session/{create(client, bearer(ANNA))}/message"

    refused(opened(client, path, ticket), 401, "UNAUTHORIZED")


def test_a_ticket_that_was_changed_or_is_another_servers_lets_nobody_in(client, make_app, clock):
    path = f"/api/session/{create(client, bearer(ANNA))}/message"
    ticket = ticket_for(client, path)
    for position in (0, len(ticket) // 2, ticket.index(".") + 1, -2):
        changed = list(ticket)
        changed[position] = "A" if changed[position] != "A" else "B"
        refused(opened(client, path, "".join(changed)), 401, "UNAUTHORIZED")
    elsewhere = make_app(auth_tokens=TOKENS, clock=clock).test_client()
    refused(opened(elsewhere, path, ticket), 401, "UNAUTHORIZED")
    # And neither is a cookie's value a ticket, nor a ticket one.
    cookie = signed_in(client)
    refused(opened(client, path, cookie.partition("=")[2]), 401, "UNAUTHORIZED")
    header = {"Host": HOST, "Cookie": f"opencode_3000={ticket}"}
    refused(client.get("/api/sessions", headers=header), 401, "UNAUTHORIZED")


def test_two_servers_with_one_secret_key_know_each_others_tickets(make_app, clock):
    key = "k" * 32
    first, second = (make_app(auth_tokens=TOKENS, clock=clock, secret_key=key).test_client() for _ in range(2))
    ticket = ticket_for(first, "/tui/state")

    assert opened(second, "/tui/state", ticket).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["", "/nothing", "api/sessions", "/api/nope", "/api/ticket", "https://evil.example/api/sessions", "//api/sessions",
     "/api/sessions?limit=1", "/api/sessions#x", "/api/session/a/b/c", "/api/session/x/abort", "\x00", "/api/\r\nsessions"],
)  # fmt: skip
def test_a_ticket_for_what_is_no_get_of_ours_is_refused(client, path):
    refused(client.post("/api/ticket", json={"path": path}, headers=bearer(ANNA)), 400, "INVALID_REQUEST", "path")


def test_a_proxys_own_sign_in_before_us_stands_in_nobodys_way(client):
    basic = {"Host": HOST, "Authorization": "Basic YTpi"}
    shown = {**basic, "Cookie": signed_in(client)}

    assert client.get("/tui/state", headers=shown).status_code == 200
    assert opened(client, "/tui/state", ticket_for(client, "/tui/state"), **basic).status_code == 200
    refused(client.get("/tui/state", headers=basic), 401, "UNAUTHORIZED", "Bearer")


def test_a_right_header_goes_before_a_ticket_and_a_wrong_one_is_not_made_good_by_it(client):
    path = f"/api/session/{create(client, bearer(ANNA))}/message"
    ticket = ticket_for(client, path)

    refused(opened(client, path, ticket, **bearer("wrong")), 401, "UNAUTHORIZED")
    assert opened(client, path, "wrong", **bearer(ANNA)).status_code == 200


def test_a_ticket_stands_in_no_log_and_in_no_error(client, caplog):
    session_id = create(client, bearer(ANNA))
    path = f"/api/session/{session_id}/message"
    ticket = ticket_for(client, path)
    with caplog.at_level(logging.DEBUG):
        assert opened(client, path, ticket).status_code == 200
        error = refused(opened(client, "/api/sessions", ticket), 401, "UNAUTHORIZED")
        missing = refused(opened(client, "/api/nope", ticket), 404, "NOT_FOUND")
        # As the servers under us write it: Werkzeug with its arguments, gunicorn with a mapping.
        logging.getLogger("werkzeug").info('"%s" %s %s', f"GET {path}?after=1&ticket={ticket}&x=1 HTTP/1.1", 200, "-")
        line = {"r": f"GET {path}?ticket={ticket} HTTP/1.1", "s": "200"}
        logging.getLogger("gunicorn.access").info('"%(r)s" %(s)s', line)

    assert ticket not in caplog.text
    assert "after=1&ticket=***&x=1 HTTP/1.1" in caplog.text
    assert f'"GET {path}?ticket=*** HTTP/1.1" 200' in caplog.text
    assert ticket not in str(error) + str(missing)


# The cookie


def test_a_token_signs_a_browser_in_and_its_cookie_is_kept_from_scripts_and_other_sites(client):
    response = client.post("/api/login", json={"token": ANNA}, headers=OWN)
    pair, attributes = cookie_of(response)

    assert response.json == {"owner": "anna", "scopes": ["approve", "read", "write"]}
    assert response.headers["Cache-Control"] == "no-store"
    assert pair.startswith("opencode_3000=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=604800"} <= attributes
    assert not [own for own in attributes if own.startswith("Domain")]
    assert "Secure" not in attributes
    assert ANNA not in pair
    shown = {"Host": HOST, "Cookie": pair}
    assert client.get("/api/sessions", headers=shown).status_code == 200
    assert client.post("/api/session", headers={**shown, "Origin": f"http://{HOST}"}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"public_url": "https://box.example"}, {"Host": "box.example", "Origin": "https://box.example"}),
        ({"public_url": "https://box.example"}, {"Host": "box.example"}),
        ({"trusted_proxies": 1}, {"Host": "box.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "8.8.8.8"}),
        # A platform that ends TLS and says nothing: the browser names the scheme.
        ({}, {"Host": "box.example", "Origin": "https://box.example"}),
    ],
)
def test_on_https_the_cookie_is_one_that_only_this_host_can_have_set(make_app, settings, headers):
    client = make_app(auth_tokens=TOKENS, **settings).test_client(use_cookies=False)

    pair, attributes = cookie_of(client.post("/api/login", json={"token": ANNA}, headers=headers))

    assert pair.startswith("__Host-opencode=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= attributes
    assert client.get("/api/sessions", headers={**headers, "Cookie": pair}).status_code == 200
    if settings:
        # A plain connection or a neighbour under the same name can set any other name, but not this one.
        planted = pair.replace("__Host-opencode", "opencode_80")
        refused(client.get("/api/sessions", headers={**headers, "Cookie": planted}), 401, "UNAUTHORIZED")


def test_the_cookies_of_two_servers_on_one_machine_do_not_meet(client):
    pair, _ = cookie_of(client.post("/api/login", json={"token": ANNA}, headers={"Host": "localhost:8080"}))

    assert pair.startswith("opencode_8080=")
    shown = {"Cookie": pair}
    assert client.get("/api/sessions", headers={"Host": "localhost:8080", **shown}).status_code == 200
    refused(client.get("/api/sessions", headers={"Host": "localhost:3000", **shown}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("host", ["box.example", "box.example:3001", "evil.example:3000", "localhost:3000"])
def test_a_cookie_is_bound_to_its_host_whatever_its_name(client, host):
    value = signed_in(client).partition("=")[2]

    for name in ("opencode_3000", "opencode_3001", "opencode_80", "__Host-opencode"):
        refused(client.get("/api/sessions", headers={"Host": host, "Cookie": f"{name}={value}"}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("settings", [{}, {"cors_origins": ("https://app.example",), "cors_credentials": True}])
def test_by_cookie_only_our_own_page_can_change_anything(make_app, settings):
    app = make_app(auth_tokens=TOKENS, **settings)
    client = app.test_client(use_cookies=False)
    session_id = create(client, bearer(ANNA))
    shown = {"Host": HOST, "Cookie": signed_in(client)}
    before = stored(app)

    for origin in (None, "https://app.example", "http://evil.example", "null"):
        headers = shown if origin is None else {**shown, "Origin": origin}
        for method, path in (("POST", "/api/session"), ("DELETE", f"/api/session/{session_id}"),
                             ("PATCH", f"/api/session/{session_id}"), ("POST", "/api/logout"), ("POST", "/tui/input"),
                             ("POST", "/api/ticket")):  # fmt: skip
            refused(client.open(path, method=method, headers=headers), 403, "FORBIDDEN")

    assert stored(app) == before
    assert client.get("/api/sessions", headers=shown).status_code == 200
    assert client.delete(f"/api/session/{session_id}", headers={**shown, **OWN}).status_code == 200


def test_by_cookie_a_websocket_needs_our_own_origin_too(make_app):
    app = make_app(auth_tokens=TOKENS, cors_origins=("https://app.example",))
    app.add_url_rule("/upgraded", view_func=lambda: "up", websocket=True)
    client = app.test_client(use_cookies=False)
    upgrade = {"Host": HOST, "Upgrade": "websocket", "Connection": "Upgrade"}
    own, allowed = {**upgrade, "Origin": f"http://{HOST}"}, {**upgrade, "Origin": "https://app.example"}
    cookie = {"Cookie": signed_in(client)}
    ticket = ticket_for(client, "/upgraded")

    refused(client.get("/upgraded", headers={**upgrade, **cookie}), 403, "FORBIDDEN", "Origin")
    refused(client.get("/upgraded", headers={**allowed, **cookie}), 403, "FORBIDDEN")
    assert client.get("/upgraded", headers={**own, **cookie}).text == "up"
    # By header or ticket, a page that CORS allows may.
    for headers in (upgrade, own, allowed):
        assert client.get("/upgraded", headers={**headers, **bearer(ANNA)}).text == "up"
        assert client.get(f"/upgraded?ticket={ticket}", headers=headers).text == "up"
    foreign = {**upgrade, "Origin": "https://evil.example"}
    refused(client.get(f"/upgraded?ticket={ticket}", headers=foreign), 403, "FORBIDDEN", "Origin")
    refused(client.get("/upgraded", headers=own), 401, "UNAUTHORIZED")


def test_a_sign_in_ends_at_the_server_with_its_cookie_and_its_tickets(client):
    first, second = signed_in(client), signed_in(client)
    shown = {**OWN, "Cookie": first}
    made = client.post("/api/ticket", json={"path": "/tui/state"}, headers=shown).json["ticket"]
    assert opened(client, "/tui/state", made).status_code == 200

    response = client.post("/api/logout", headers=shown)

    assert response.json == {"success": True}
    (line,) = response.headers.getlist("Set-Cookie")
    assert line.startswith("opencode_3000=;")
    assert "Max-Age=0" in line
    refused(client.get("/api/sessions", headers=shown), 401, "UNAUTHORIZED")
    refused(opened(client, "/tui/state", made), 401, "UNAUTHORIZED")
    refused(opened(client, "/tui/state", made, **{"Last-Event-ID": "1"}), 401, "UNAUTHORIZED")
    assert client.get("/api/sessions", headers={**OWN, "Cookie": second}).status_code == 200
    assert client.get("/api/sessions", headers=bearer(ANNA)).status_code == 200


def test_a_cookie_ends_after_a_week(client, clock):
    shown = {"Host": HOST, "Cookie": signed_in(client)}

    clock.now += 7 * 24 * 3600
    assert client.get("/api/sessions", headers=shown).status_code == 200
    clock.now += 1
    refused(client.get("/api/sessions", headers=shown), 401, "UNAUTHORIZED")


def test_a_cookie_has_the_owner_and_scopes_of_its_token(client):
    session_id = create(client, bearer(ANNA))
    eyes = {**OWN, "Cookie": signed_in(client, "eyes-only-3")}
    other = {**OWN, "Cookie": signed_in(client, BERT)}

    assert client.get(f"/api/session/{session_id}", headers=eyes).status_code == 200
    refused(client.post("/api/session", headers=eyes), 403, "FORBIDDEN", "write")
    refused(client.get(f"/api/session/{session_id}", headers=other), 404, "SESSION_NOT_FOUND")
    assert client.post("/api/logout", headers=eyes).status_code == 200


def test_a_wrong_token_signs_nobody_in(client):
    for token in ("wrong", ANNA + " ", ANNA.upper(), f"anna:{ANNA}", " "):
        response = client.post("/api/login", json={"token": token}, headers=OWN)
        refused(response, 401, "UNAUTHORIZED")
        assert "Set-Cookie" not in response.headers
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("body", [{}, {"token": ANNA, "code": "x"}, {"token": ""}, {"token": 1}, {"tokens": ANNA}, []])
def test_signing_in_takes_one_token_or_one_code(client, body):
    refused(client.post("/api/login", json=body, headers=OWN), 400, "INVALID_REQUEST")


def test_no_other_page_can_sign_a_browser_in(make_app):
    client = make_app(auth_tokens=TOKENS, cors_origins=("https://app.example",)).test_client(use_cookies=False)
    login = {"json": {"token": BERT}}

    for origin in ("https://app.example", "https://evil.example", "null"):
        response = client.post("/api/login", **login, headers={"Host": HOST, "Origin": origin})
        refused(response, 403, "FORBIDDEN")
        assert "Set-Cookie" not in response.headers
    form = {"Host": HOST, "Content-Type": "text/plain"}
    refused(client.post("/api/login", data='{"token": "x"}', headers=form), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_where_no_token_is_asked_for_there_is_nothing_to_sign_in_to(make_app):
    app = make_app()
    client = app.test_client()

    response = client.post("/api/login", json={"token": "any"})

    assert response.json == {"owner": "local", "scopes": ["approve", "read", "write"]}
    assert "Set-Cookie" not in response.headers
    assert client.post("/api/logout").json == {"success": True}
    assert app.extensions["opencode-authenticator"].link_code() is None
    ticket = client.post("/api/ticket", json={"path": "/tui/state"}).json["ticket"]
    assert client.get(f"/tui/state?ticket={ticket}").status_code == 200


def test_while_the_store_is_away_a_cookie_is_not_taken_on_trust(app, client):
    shown = {"Host": HOST, "Cookie": signed_in(client)}

    with store_out_of_reach(app):
        refused(client.get("/api/models", headers=shown), 503, "UNAVAILABLE")
    assert client.get("/api/models", headers=shown).status_code == 200


def test_a_page_follows_and_approves_by_cookie_alone(make_app):
    call = ToolCall("call_1", "bash", {"command": "true"})
    app = make_app(
        [[call, Usage(1, 1)], [Text("ok"), Usage(1, 1)]], auth_tokens=TOKENS, permission={"bash": "ask"}
    )  # fmt: skip
    client = app.test_client(use_cookies=False)
    shown = {**OWN, "Cookie": signed_in(client)}
    session_id = create(client, shown)
    stream = say(client, session_id, headers=shown)
    asked = stream.until("permission_request")[-1].data

    path = f"/api/session/{session_id}/permission/{asked['permission_id']}"
    assert client.post(path, json={"response": "once"}, headers=shown).json == {"success": True}
    assert stream.rest()[-1].data["status"] == "completed"


# The printed link


def code_of(app):
    return app.extensions["opencode-authenticator"].link_code()


def by_code(client, code):
    return client.post("/api/login", json={"code": code}, headers=OWN)


def test_the_printed_code_signs_in_once_as_the_owner_of_the_server(make_app, clock):
    app = make_app(auth=True, clock=clock)
    client = app.test_client(use_cookies=False)
    code = code_of(app)

    pair, _ = cookie_of(by_code(client, code))

    assert client.post("/api/session", headers={**OWN, "Cookie": pair}).status_code == 200
    again = refused(by_code(client, code), 401, "UNAUTHORIZED", "used")
    assert code not in str(again)
    assert cookie_of(by_code(client, code_of(app)))


def test_the_printed_code_is_good_for_ten_minutes(make_app, clock):
    app = make_app(auth_tokens=(f"anna:{ANNA}",), clock=clock)
    client = app.test_client(use_cookies=False)
    first, second = code_of(app), code_of(app)

    clock.now += 600
    assert by_code(client, first).status_code == 200
    clock.now += 1
    refused(by_code(client, second), 401, "UNAUTHORIZED", "its time is over")
    refused(by_code(client, first), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("code", ["x", "a.b.c", "é", "x" * 200, "\x00", ANNA])
def test_what_is_no_code_signs_nobody_in(client, code):
    refused(by_code(client, code), 401, "UNAUTHORIZED")


def test_the_link_signs_in_with_the_most_that_a_token_may(make_app):
    app = make_app(auth_tokens=("anna:read:eyes", "anna:all-of-it"))

    answer = by_code(app.test_client(), code_of(app))

    assert answer.json == {"owner": "anna", "scopes": ["approve", "read", "write"]}


def test_of_several_owners_no_link_can_sign_in(app):
    assert code_of(app) is None
