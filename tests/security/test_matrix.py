"""Route by route: no token, a wrong one, another owner's, one that may only read, a foreign Origin, a foreign Host.

The routes come from the URL map. A route that is new is in every test by itself; one that needs a body or an id which
`tests/security/door.py` does not know fails here until it is thought about.
"""

import pytest

from tests.security.door import ANNA, BERT, EYES, HOST, TOKENS, Way, bearer, ways
from tests.server.talk import create, refused, say, stored

SECRET = "annas-own-words"
FOREIGN = ["https://evil.example", "http://box.example:3001", "http://box.example", "http://localhost:3000", "null"]


@pytest.fixture(scope="module")
def app(make_lasting_app):
    app = make_lasting_app(auth_tokens=TOKENS, allowed_hosts=("box.example",))
    # A WebSocket's upgrade is a GET that the same guard sees; this one stands in for those to come.
    app.add_url_rule("/upgraded/<session_id>", view_func=lambda session_id: session_id, websocket=True)
    return app


@pytest.fixture(scope="module")
def client(app):
    return app.test_client(use_cookies=False)


@pytest.fixture(scope="module")
def session_id(client):
    """A session of Anna's with a turn, and a screen of hers with words on it."""
    made = create(client, bearer(ANNA), title=SECRET)
    say(client, made, SECRET, headers=bearer(ANNA)).rest()
    client.post("/tui/input", json={"type": "text", "text": SECRET}, headers=bearer(ANNA))
    return made


@pytest.fixture(scope="module")
def closed(app) -> list[Way]:
    """All ways but health's, which is open to every probe."""
    found = [way for way in ways(app) if not way.is_health]
    assert len(found) >= 20
    return found


def right(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("headers", [{}, right("wrong"), right(""), right(ANNA + "x"), right("anna")], ids=str)
def test_without_a_right_token_only_what_is_open_answers(app, client, session_id, closed, headers):
    before = stored(app)
    for way in closed:
        response = way.ask(client, session_id, **headers)
        if way.scope is None:
            assert response.status_code == 200 or way.rule == "/api/login", way
            assert SECRET not in response.text
        else:
            refused(response, 401, "UNAUTHORIZED")
            assert response.headers["WWW-Authenticate"].startswith("Bearer"), way
    assert stored(app) == before


def test_by_anothers_token_nothing_of_an_owner_exists(app, client, session_id, closed):
    # What the other one may change is his own: a session of his and his screen, made before the look at the store.
    own = create(client, bearer(BERT))
    before = client.get(f"/api/session/{session_id}", headers=bearer(ANNA)).json
    met = 0
    for way in closed:
        if way.is_websocket:
            continue
        asked = way.ask(client, session_id, **right(BERT))
        assert SECRET not in asked.text, way
        assert session_id not in asked.text.replace(f"Session not found: {session_id}", ""), way
        if "session_id" in way.rule:
            met += 1
            error = refused(asked, 404, "SESSION_NOT_FOUND")
            missing = refused(way.ask(client, "ses_missing", **right(BERT)), 404, "SESSION_NOT_FOUND")
            assert error["message"].replace(session_id, "ses_missing") == missing["message"], way
    assert met >= 9
    assert client.get(f"/api/session/{session_id}", headers=bearer(ANNA)).json == before
    assert client.get(f"/api/session/{own}", headers=bearer(BERT)).status_code == 200
    assert SECRET in client.get("/tui/state", headers=bearer(ANNA)).text


def test_by_a_token_that_may_only_read_nothing_changes(app, client, session_id, closed):
    before = stored(app)
    needed = set()
    for way in closed:
        response = way.ask(client, session_id, **right(EYES))
        if way.scope in {None, "read"}:
            assert response.status_code not in {401, 403} or way.rule == "/api/login", way
        else:
            refused(response, 403, "FORBIDDEN", str(way.scope))
            needed.add(way.scope)
    assert needed == {"write", "approve"}
    assert stored(app) == before


def test_what_changes_something_needs_more_than_reading(closed):
    """By its method: a new route with a body does not come in as `read` unseen."""
    of_readers = {"/api/ticket", "/api/logout", "/api/render"}  # readers follow streams too, look at them, and leave
    for way in closed:
        if way.method != "GET" and way.scope is not None:
            assert way.scope in {"write", "approve"} or way.rule in of_readers, way
    assert {way.rule for way in closed if way.scope is None} <= {
        *("/openapi.json", "/docs", "/docs/<name>", "/", "/api/login")
    } | {way.rule for way in closed if way.rule.startswith("/static/")}


@pytest.mark.parametrize("origin", FOREIGN)
def test_from_a_foreign_origin_no_route_answers_not_even_with_the_token(app, client, session_id, closed, origin):
    before = stored(app)
    for way in closed:
        for headers in ({}, right(ANNA)):
            response = way.ask(client, session_id, Origin=origin, **headers)
            refused(response, 403, "FORBIDDEN", "Origin")
            assert not [name for name, _ in response.headers if name.startswith("Access-Control")], way
        preflight = client.options(way.path(session_id), headers={"Host": HOST, "Origin": origin})
        assert preflight.status_code in {403, 400}, way
        assert "Access-Control-Allow-Origin" not in preflight.headers
    assert stored(app) == before


@pytest.mark.parametrize("mode", ["no-cors", "cors", "navigate", "websocket"])
def test_another_sites_page_that_hides_its_origin_reaches_no_route(app, client, session_id, closed, mode):
    before = stored(app)
    for way in closed:
        for site in ("cross-site", "same-site"):
            headers = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": "empty"}
            refused(way.ask(client, session_id, **headers, **right(ANNA)), 403, "FORBIDDEN", "Origin")
    assert stored(app) == before


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3000", "box.example.evil", "xbox.example", "", "a b"])
def test_under_a_foreign_host_no_route_answers_not_even_with_the_token(app, client, session_id, closed, host):
    before = stored(app)
    for way in closed:
        refused(way.ask(client, session_id, Host=host, **right(ANNA)), 403, "FORBIDDEN", "Host")
    assert stored(app) == before


def test_without_authentication_the_same_holds_for_peer_host_and_origin(make_lasting_app):
    app = make_lasting_app()
    client = app.test_client(use_cookies=False)
    session_id = create(client)
    before = stored(app)
    for way in ways(app):
        if way.is_health:
            continue
        refused(way.ask(client, session_id, Host="evil.example"), 403, "FORBIDDEN", "Host")
        refused(way.ask(client, session_id, Host="localhost", Origin="http://evil.example"), 403, "FORBIDDEN", "Origin")
        refused(way.ask(client, session_id, Host="localhost", X_Forwarded_For="127.0.0.1"), 403, "FORBIDDEN")
        headers = {"Host": "localhost", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
        refused(way.ask(client, session_id, **headers), 403, "FORBIDDEN", "Origin")
    assert stored(app) == before


def test_health_is_all_that_answers_everybody(app, client, session_id):
    health = [way for way in ways(app) if way.is_health]
    for way in health:
        response = way.ask(client, session_id, Host="evil.example", Origin="https://evil.example", **right("wrong"))
        assert response.status_code == 200, way
        assert SECRET not in response.text
    assert {way.rule for way in health} == {"/health", "/health/ready"}
