"""Who may come in: peers, Hosts, Origins, tokens and scopes (API sections 1 and 8)."""

import logging

import pytest

from opencode.errors import SettingsError
from opencode.server.access import parse_tokens
from opencode.server.factory import create_app
from opencode.settings import load
from tests.server.talk import create, follow, path, refused, routes, say, stored, turn

ANNA, BERT = "anna-secret-1", "bert-secret-2"
TOKENS = (f"anna:{ANNA}", f"bert:{BERT}", "reader:read:read-only-3", "writer:read+write:no-approval-4", "nameless-5")
OPEN = {
    *("/health", "/health/ready", "/openapi.json", "/api/login"),
    *("/", "/static/<name>", "/docs", "/static/docs/<name>"),
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def app(make_lasting_app):
    return make_lasting_app(auth_tokens=TOKENS)


@pytest.fixture(scope="module")
def local_app(make_lasting_app):
    """A server that asks for no token."""
    return make_lasting_app()


@pytest.fixture
def local(local_app):
    return local_app.test_client(use_cookies=False)


# Tokens


def test_tokens_that_are_set_turn_authentication_on(app):
    refused(app.test_client().get("/api/sessions"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("headers", [{}, bearer("wrong")])
def test_without_a_right_token_every_route_but_the_open_ones_is_closed(app, headers):
    client = app.test_client()
    session_id = create(client, bearer(ANNA))
    before = stored(app)
    closed = 0
    for method, rule, _ in routes(app):
        response = client.open(path(rule, session_id), method=method, headers=headers)
        if rule in OPEN:
            assert response.status_code == (400 if method == "POST" else 200), rule
            continue
        closed += 1
        refused(response, 401, "UNAUTHORIZED")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert closed >= 15
    assert stored(app) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        bearer(ANNA + "x"),
        bearer(ANNA[:-1]),
        bearer(ANNA.upper()),
        bearer(f"anna:{ANNA}"),
        bearer("anna"),
        bearer("é"),
        {"Authorization": ANNA},
        {"Authorization": f"Basic {ANNA}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {ANNA} {BERT}"},
        {"X-Token": ANNA},
    ],
)
def test_what_is_no_right_token_lets_nobody_in(app, headers):
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}

    error = refused(app.test_client().get("/api/sessions", headers=encoded), 401, "UNAUTHORIZED")

    assert ANNA not in error["message"]


def test_a_token_in_the_address_or_a_cookie_lets_nobody_in(app):
    client = app.test_client()
    client.set_cookie("opencode_3000", ANNA)
    for query in ("token", "ticket", "access_token", "api_key"):
        refused(client.get(f"/api/sessions?{query}={ANNA}"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_right_token_opens_every_route(app, scheme):
    client = app.test_client()
    for method, rule, _ in routes(app):
        response = client.open(path(rule), method=method, headers={"Authorization": f"{scheme} {ANNA}"})
        assert response.status_code not in {401, 403}, rule
        response.close()


def test_a_name_is_an_owner_and_what_is_anothers_does_not_exist(app):
    client = app.test_client()
    session_id = create(client, bearer(ANNA), title="anna's")
    say(client, session_id, headers=bearer(ANNA)).rest()
    least = {"SendMessage": {"content": "x"}, "AnswerPermission": {"response": "once"}}
    before = stored(app)
    closed = 0
    for method, rule, contract in routes(app):
        if "<session_id>" not in rule:
            continue
        closed += 1
        body = None if contract.body is None else least.get(contract.body.__name__, {})
        asked = client.open(path(rule, session_id), method=method, json=body, headers=bearer(BERT))
        missing = client.open(path(rule), method=method, json=body, headers=bearer(BERT))
        error = refused(asked, 404, "SESSION_NOT_FOUND")
        assert error["message"].replace(session_id, "ses_missing") == missing.json["error"]["message"]
    assert closed >= 9
    assert stored(app) == before
    for query in ("", "?q=anna", "?q=hi"):
        assert client.get(f"/api/sessions{query}", headers=bearer(BERT)).json["sessions"] == []
    assert client.get("/api/project", headers=bearer(BERT)).json["projects"] == []
    assert client.get(f"/api/session/{session_id}", headers=bearer(ANNA)).json["title"] == "anna's"


def test_tokens_without_a_name_share_one_owner(make_app):
    client = make_app(auth_tokens=("one-token", "two-token", f"anna:{ANNA}")).test_client()
    session_id = create(client, bearer("one-token"))

    assert client.get(f"/api/session/{session_id}", headers=bearer("two-token")).status_code == 200
    refused(client.get(f"/api/session/{session_id}", headers=bearer(ANNA)), 404, "SESSION_NOT_FOUND")


def test_two_tokens_of_one_name_are_one_owner(make_app):
    client = make_app(auth_tokens=("anna:first", "anna:read:second")).test_client()
    session_id = create(client, bearer("first"))

    assert client.get(f"/api/session/{session_id}", headers=bearer("second")).status_code == 200


def test_each_route_needs_the_scope_of_its_contract(app):
    client = app.test_client()
    scopes = {"read-only-3": {"read"}, "no-approval-4": {"read", "write"}}
    needed = set()
    for method, rule, contract in routes(app):
        for token, given in scopes.items():
            response = client.open(path(rule), method=method, headers=bearer(token))
            if contract.scope is None or contract.scope in given:
                assert response.status_code not in {401, 403}, (method, rule, token)
            else:
                refused(response, 403, "FORBIDDEN", contract.scope)
                needed.add(contract.scope)
            response.close()
        if method != "GET" and not rule.startswith(("/api/ticket", "/api/log", "/api/render")):
            assert contract.scope in {"write", "approve"}, (method, rule)
    assert needed == {"write", "approve"}


def test_who_may_only_read_can_read_and_follow_what_its_owner_wrote(make_app):
    client = make_app(auth_tokens=("anna:hands", "anna:read:eyes")).test_client()
    session_id = create(client, bearer("hands"))
    events = say(client, session_id, headers=bearer("hands")).rest()

    followed = follow(client, session_id, "?until=end", headers=bearer("eyes")).rest()

    assert followed == events
    refused(client.post("/api/session", headers=bearer("eyes")), 403, "FORBIDDEN", "write")


MALFORMED = [
    ":", "name:", "Name:token", "na me:token", "n" * 33 + ":token", "name:read+fly:token", "name::token",
    "name:read:", "name:read:token:more", "é:token", "name:read+:token", ":token", "name:read+write", "name:read",
    "read:token", "name:tökén",
]  # fmt: skip


@pytest.mark.parametrize("entry", MALFORMED)
def test_a_malformed_token_stops_the_start_and_is_not_shown(make_app, entry):
    with pytest.raises(SettingsError, match="OPENCODE_AUTH_TOKENS, entry 2") as stopped:
        make_app(auth_tokens=("fine", entry))

    secret = entry.rpartition(":")[2]
    assert len(secret) < 5 or secret not in str(stopped.value).replace("token, name:token or name:scopes:token", "")


@pytest.mark.parametrize("text", [" ", ",", "one,,two", "one,", ",one", "one, ,two"])
def test_an_empty_token_in_the_environment_stops_the_start(make_app, text, tmp_path):
    settings, _ = load({"OPENCODE_AUTH_TOKENS": text}, directory=tmp_path)

    with pytest.raises(SettingsError, match="OPENCODE_AUTH_TOKENS, entry"):
        make_app(auth_tokens=settings.auth_tokens)


def test_a_token_that_can_be_guessed_is_warned_about_and_not_told(make_app, caplog):
    make_app(auth_tokens=("anna:0123456789abcdef",))
    assert "guessed" not in caplog.text
    make_app(auth_tokens=("anna:0123456789abcde",))
    assert "OPENCODE_AUTH_TOKENS: a token of less than 16 characters can be guessed" in caplog.text
    assert "0123456789" not in caplog.text


def test_the_same_token_twice_stops_the_start(make_app):
    with pytest.raises(SettingsError, match="twice") as stopped:
        make_app(auth_tokens=("anna:very-secret", "bert:very-secret"))
    assert "very-secret" not in str(stopped.value)


def test_tokens_are_read_in_their_three_forms():
    plain, named, scoped = parse_tokens(("plain", "a-b_9:named", "x:approve+read:scoped"))

    assert (plain.owner, plain.scopes, plain.secret) == ("default", {"read", "write", "approve"}, "plain")
    assert (named.owner, named.scopes) == ("a-b_9", {"read", "write", "approve"})
    assert (scoped.owner, scoped.scopes) == ("x", {"approve", "read"})


@pytest.mark.parametrize(
    ("settings", "on"),
    [
        ({}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "192.168.1.5"}, True),
        ({"host": "box.example"}, True),
        ({"auth": True}, True),
        ({"auth_tokens": ("t",)}, True),
        ({"auth_tokens": ("t",), "auth": False}, False),
    ],
)
def test_authentication_is_on_beyond_loopback_and_where_tokens_are_set(make_app, settings, on):
    client = make_app(**settings).test_client()

    assert client.get("/api/sessions").status_code == (401 if on else 200)


def test_where_no_token_is_set_a_new_one_is_made_that_lets_in(make_app):
    first, second = make_app(auth=True), make_app(auth=True)
    token = first.config["NEW_TOKEN"]

    assert len(token) >= 32
    assert token != second.config["NEW_TOKEN"]
    assert first.test_client().get("/api/sessions", headers=bearer(token)).status_code == 200
    refused(second.test_client().get("/api/sessions", headers=bearer(token)), 401, "UNAUTHORIZED")


def test_a_token_that_is_set_is_not_joined_by_a_made_one(app):
    assert app.config["NEW_TOKEN"] is None


# With authentication off: this machine only


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_call_without_a_token(local, peer):
    assert local.get("/api/sessions", environ_overrides={"REMOTE_ADDR": peer}).status_code == 200


def test_without_a_token_every_route_but_health_is_for_this_machine(local_app, local):
    for method, rule, _ in routes(local_app):
        response = local.open(path(rule), method=method, environ_overrides={"REMOTE_ADDR": "192.168.1.2"})
        if rule.startswith("/health"):
            assert response.status_code == 200
        else:
            refused(response, 403, "FORBIDDEN", "OPENCODE_AUTH_TOKENS")


@pytest.mark.parametrize(
    "peer", ["192.168.1.2", "10.0.0.1", "8.8.8.8", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0", "", "x"]
)
def test_nobody_else_may(local, peer):
    refused(local.get("/api/sessions", environ_overrides={"REMOTE_ADDR": peer}), 403, "FORBIDDEN")


FORWARDED = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
             "X-Forwarded-Prefix", "X-Forwarded-Server", "x-forwarded-anything"]  # fmt: skip


@pytest.mark.parametrize("name", FORWARDED)
@pytest.mark.parametrize("hops", [0, 1])
def test_a_forwarded_request_is_refused_without_a_token(make_app, name, hops):
    client = make_app(trusted_proxies=hops).test_client()

    for value in ("127.0.0.1", "", "localhost"):
        refused(client.get("/api/sessions", headers={name: value}), 403, "FORBIDDEN", "OPENCODE_AUTH_TOKENS")
    assert client.get("/health", headers={name: "127.0.0.1"}).status_code == 200


def test_a_proxy_cannot_make_a_foreign_peer_local(make_app):
    client = make_app(trusted_proxies=1).test_client()

    response = client.get(
        "/api/sessions", headers={"X-Forwarded-For": "127.0.0.1"}, environ_overrides={"REMOTE_ADDR": "10.0.0.1"}
    )

    refused(response, 403, "FORBIDDEN")


def test_with_a_token_a_forwarded_request_from_anywhere_is_fine(app):
    response = app.test_client().get(
        "/api/sessions",
        headers={**bearer(ANNA), "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4"},
        environ_overrides={"REMOTE_ADDR": "8.8.8.8"},
    )
    assert response.status_code == 200


# Host


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:3000", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.1:3000", "[::1]", "[::1]:3000",
     "192.168.7.7:80", "[fe80::1]", "0.0.0.0:3000"],
)  # fmt: skip
def test_localhost_and_addresses_cannot_be_rebound_and_are_fine(local, host):
    assert local.get("/api/sessions", headers={"Host": host}).status_code == 200


def test_any_other_name_is_refused_on_every_route_but_health(local_app, local):
    for method, rule, _ in routes(local_app):
        response = local.open(path(rule), method=method, headers={"Host": "evil.example"})
        if rule.startswith("/health"):
            assert response.status_code == 200, rule
        else:
            refused(response, 403, "FORBIDDEN", "Host")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost",
     "local host", "localhost,evil.example", "a@b", "[::1", "2130706433", "0x7f.1", "localhost/", "é", "-", "%6cocalhost"],
)  # fmt: skip
def test_what_is_no_name_of_ours_is_refused(local, host):
    headers = {"Host": host.encode().decode("latin-1")}

    refused(local.get("/api/sessions", headers=headers), 403, "FORBIDDEN", "Host")
    refused(local.get("/openapi.json", headers=headers), 403, "FORBIDDEN", "Host")
    assert local.get("/health", headers=headers).status_code == 200


def test_the_refusal_of_a_host_names_the_variable_to_set(local):
    refused(
        local.get("/api/sessions", headers={"Host": "box.example:3000"}),
        403,
        "FORBIDDEN",
        "OPENCODE_ALLOWED_HOSTS=box.example",
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_hosts": ("other.example", "Box.Example")},
        {"public_url": "https://box.example"},
        {"public_url": "http://box.example:8080"},
        {"host": "box.example", "auth": False},
    ],
)
def test_names_that_were_given_to_the_server_are_fine(make_app, settings):
    client = make_app(**settings).test_client()

    assert client.get("/api/sessions", headers={"Host": "box.example"}).status_code == 200
    assert client.get("/api/sessions", headers={"Host": "BOX.example:8080"}).status_code == 200
    refused(client.get("/api/sessions", headers={"Host": "box.example.evil"}), 403, "FORBIDDEN", "Host")


def test_with_a_token_and_no_list_any_host_passes_and_with_a_list_only_those(make_app, app):
    evil = {"Host": "evil.example", **bearer(ANNA)}

    assert app.test_client().get("/api/sessions", headers=evil).status_code == 200
    listed = make_app(auth_tokens=TOKENS, allowed_hosts=("box.example",)).test_client()
    refused(listed.get("/api/sessions", headers=evil), 403, "FORBIDDEN", "Host")
    assert listed.get("/api/sessions", headers={**evil, "Host": "box.example"}).status_code == 200


# Origin


def test_another_sites_page_is_refused_on_every_route_but_health(local_app, local):
    headers = {"Host": "localhost:3000", "Origin": "https://evil.example"}
    before = stored(local_app)
    for method, rule, _ in routes(local_app):
        for verb in (method, "OPTIONS"):
            response = local.open(path(rule), method=verb, headers=headers)
            if rule.startswith("/health"):
                assert response.status_code == 200, rule
            else:
                refused(response, 403, "FORBIDDEN", "Origin")
            assert "Access-Control-Allow-Origin" not in response.headers
    assert stored(local_app) == before


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:9999", "http://localhost", "null", "", "http://127.0.0.1:3000",
     "http://localhost:3000.evil.example", "file://", "http://localhost:3000/path", "chrome-extension://abc",
     "ftp://localhost:3000", "http://localhost:3000, http://localhost:3000", "http://evil@localhost:3000", "[",
     "http://[", "http://localhost:3000#x"],
)  # fmt: skip
def test_what_is_no_origin_of_ours_is_refused(local, origin):
    headers = {"Host": "localhost:3000", "Origin": origin}

    for method in ("GET", "POST", "OPTIONS"):
        refused(local.open("/api/session", method=method, headers=headers), 403, "FORBIDDEN", "Origin")
    refused(local.get("/openapi.json", headers=headers), 403, "FORBIDDEN", "Origin")
    assert local.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "localhost"])
def test_the_servers_own_pages_are_let_in(local, host):
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}

    assert local.post("/api/session", headers=headers).status_code == 200


def test_the_scheme_counts_where_it_is_known(make_app):
    headers = {"Host": "box.example", "Origin": "http://box.example", **bearer(ANNA)}
    plain = make_app(auth_tokens=TOKENS).test_client()
    public = make_app(auth_tokens=TOKENS, public_url="https://box.example").test_client()
    behind = make_app(auth_tokens=TOKENS, trusted_proxies=1).test_client()
    forwarded = {**headers, "X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"}

    assert plain.get("/api/sessions", headers=headers).status_code == 200
    assert public.get("/api/sessions", headers={**headers, "Origin": "https://box.example"}).status_code == 200
    assert behind.get("/api/sessions", headers={**forwarded, "Origin": "https://box.example"}).status_code == 200
    refused(behind.get("/api/sessions", headers=forwarded), 403, "FORBIDDEN", "Origin")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_that_hides_its_origin_is_refused(local_app, local, site):
    for method, rule, _ in routes(local_app):
        response = local.open(path(rule), method=method, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
        if rule.startswith("/health"):
            assert response.status_code == 200
        else:
            refused(response, 403, "FORBIDDEN", "Origin")
    refused(
        local.get("/api/sessions", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}), 403, "FORBIDDEN"
    )


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_what_the_browser_says_is_no_other_site_is_fine(local, site):
    assert local.get("/api/sessions", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_a_token_does_not_make_up_for_a_foreign_origin(app):
    response = app.test_client().get("/api/sessions", headers={**bearer(ANNA), "Origin": "https://evil.example"})
    refused(response, 403, "FORBIDDEN", "Origin", "OPENCODE_CORS_ORIGINS=https://evil.example")


# CORS

PAGE = "https://app.example.com"


def test_cors_allows_nothing_by_default(local):
    response = local.get("/api/sessions", headers={"Origin": "http://localhost"})

    assert response.status_code == 200
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("settings", [{}, {"auth_tokens": TOKENS}])
def test_an_allowed_page_may_ask_first_without_a_token(make_app, settings):
    client = make_app(cors_origins=(PAGE,), **settings).test_client()

    for method, header in (("PATCH", "Content-Type"), ("DELETE", "Authorization"), ("GET", "Last-Event-ID")):
        response = client.options(
            "/api/session/x" if method != "GET" else "/api/session/x/message",
            headers={
                "Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": header,
            },
        )  # fmt: skip
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert method in response.headers["Access-Control-Allow-Methods"]
        assert header.lower() in response.headers["Access-Control-Allow-Headers"].lower()
        assert "Access-Control-Allow-Credentials" not in response.headers


def test_an_allowed_page_may_call_with_a_token_and_read_the_headers_it_needs(make_app):
    client = make_app(cors_origins=(PAGE, "https://b.example"), auth_tokens=TOKENS, rate_limit=True).test_client()

    let_in = client.get("/api/sessions", headers={"Origin": PAGE, **bearer(ANNA)})
    kept_out = client.get("/api/sessions", headers={"Origin": PAGE})

    assert let_in.status_code == 200
    refused(kept_out, 401, "UNAUTHORIZED")
    for response in (let_in, kept_out):
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Origin" in response.headers["Vary"]
        exposed = response.headers["Access-Control-Expose-Headers"].lower()
        for name in ("X-Request-Id", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"):
            assert name.lower() in exposed


@pytest.mark.parametrize("settings", [{}, {"auth_tokens": TOKENS}])
@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.com.evil", "http://app.example.com",
                                    "https://app.example.com:444", "https://APPxexample.com", "null"])  # fmt: skip
def test_another_page_than_the_allowed_is_still_refused(make_app, settings, origin):
    client = make_app(cors_origins=(PAGE,), **settings).test_client()

    response = client.get("/api/sessions", headers={"Origin": origin, **bearer(ANNA)})

    refused(response, 403, "FORBIDDEN", "Origin")
    assert "Access-Control-Allow-Origin" not in response.headers


def test_null_never_passes_whatever_was_set(make_app):
    for origins in (("*",), (PAGE,), (PAGE, "*")):
        for settings in ({}, {"auth_tokens": TOKENS}):
            client = make_app(cors_origins=origins, **settings).test_client()
            for address in ("/api/sessions", "/openapi.json"):
                refused(client.get(address, headers={"Origin": "null", **bearer(ANNA)}), 403, "FORBIDDEN", "null")


def test_credentials_are_allowed_to_named_pages_where_they_are_on(make_app):
    client = make_app(cors_origins=(PAGE,), cors_credentials=True, auth_tokens=TOKENS).test_client()

    response = client.get("/api/sessions", headers={"Origin": PAGE, **bearer(ANNA)})

    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("origins", [("*",), (PAGE, "*")])
def test_every_origin_together_with_credentials_stops_the_start(make_app, origins):
    with pytest.raises(SettingsError, match=r"OPENCODE_CORS_ORIGINS.*OPENCODE_CORS_CREDENTIALS"):
        make_app(cors_origins=origins, cors_credentials=True)


def test_every_origin_without_a_token_covers_health_and_the_document_only(make_app, caplog):
    with caplog.at_level(logging.WARNING, "opencode"):
        app = make_app(cors_origins=("*",))
    client = app.test_client()
    assert "CORS" in caplog.text

    for method, rule, _ in routes(app):
        response = client.open(path(rule), method=method, headers={"Origin": "https://any.example"})
        if rule.startswith(("/health", "/openapi.json")):
            assert response.status_code == 200, rule
            assert response.headers["Access-Control-Allow-Origin"] in {"*", "https://any.example"}
        else:
            refused(response, 403, "FORBIDDEN", "Origin")
            assert "Access-Control-Allow-Origin" not in response.headers


def test_every_origin_with_a_token_covers_everything_and_still_needs_the_token(make_app):
    client = make_app(cors_origins=("*",), auth_tokens=TOKENS).test_client()
    headers = {"Origin": "https://any.example"}

    assert client.get("/api/sessions", headers={**headers, **bearer(ANNA)}).status_code == 200
    refused(client.get("/api/sessions", headers=headers), 401, "UNAUTHORIZED")


# Health and the document


@pytest.mark.parametrize("address", ["/health", "/health/ready"])
@pytest.mark.parametrize("settings", [{}, {"auth_tokens": TOKENS, "allowed_hosts": ("box.example",)}])
def test_health_is_open_to_all_peers_hosts_and_origins(make_app, address, settings):
    client = make_app(**settings).test_client()

    response = client.get(
        address,
        headers={
            "Host": "10.1.2.3.evil.example", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site",
            "X-Forwarded-For": "8.8.8.8", "Authorization": "Bearer wrong",
        },
        environ_overrides={"REMOTE_ADDR": "8.8.8.8"},
    )  # fmt: skip

    assert response.status_code == 200


def test_the_document_is_open_without_a_token_but_not_to_other_hosts_or_pages(make_app, app):
    client = app.test_client()
    assert client.get("/openapi.json").status_code == 200
    refused(client.get("/openapi.json", headers={"Origin": "https://evil.example"}), 403, "FORBIDDEN", "Origin")
    local = make_app().test_client()
    refused(local.get("/openapi.json", headers={"Host": "evil.example"}), 403, "FORBIDDEN", "Host")


# The order of the checks


def test_the_checks_run_in_the_order_of_the_contract(make_app):
    app = make_app(auth_tokens=TOKENS, allowed_hosts=("localhost",), max_body_bytes=2000, rate_limit=True,
                   rate_limit_max_requests=3)  # fmt: skip
    client = app.test_client()
    session_id = create(client, bearer(BERT))
    wrong_everything = {
        "Host": "evil.example", "Origin": "https://evil.example", "Content-Type": "text/plain",
    }  # fmt: skip
    huge = "x" * 3000
    missing, real = "/api/nope", "/api/session"

    def ask(address: str, headers: dict[str, str], data: str | None = huge, method: str = "POST"):
        return client.open(address, method=method, headers=headers, data=data)

    # Each step mends what was refused before, and leaves all that comes later as it was.
    headers = dict(wrong_everything)
    refused(ask(missing, headers), 403, "FORBIDDEN", "Host")
    headers["Host"] = "localhost"
    refused(ask(missing, headers), 403, "FORBIDDEN", "Origin")
    del headers["Origin"]
    refused(ask(missing, headers), 404, "NOT_FOUND")
    refused(ask(real, headers, method="PUT"), 405, "METHOD_NOT_ALLOWED")
    refused(ask(real, headers), 401, "UNAUTHORIZED")
    refused(ask(real, {**headers, **bearer("read-only-3")}), 403, "FORBIDDEN", "write")
    # By now the window is full for this address; the limit comes before the body is looked at.
    refused(ask(real, {**headers, **bearer(ANNA)}), 429, "RATE_LIMIT_EXCEEDED")

    unlimited = make_app(auth_tokens=TOKENS, max_body_bytes=2000)
    client = unlimited.test_client()
    session_id = create(client, bearer(BERT))
    address, headers = f"/api/session/{session_id}/message", {**headers, **bearer(ANNA)}
    refused(ask(address, headers), 413, "PAYLOAD_TOO_LARGE")
    refused(ask(address, headers, "{"), 415, "UNSUPPORTED_MEDIA_TYPE")
    headers["Content-Type"] = "application/json"
    refused(ask(address, headers, "{"), 400, "INVALID_REQUEST")
    refused(ask(address, headers, '{"content": "x"}'), 404, "SESSION_NOT_FOUND")
    assert ask(address, {**headers, **bearer(BERT)}, '{"content": "x"}').status_code == 200


def test_refused_requests_are_checked_whatever_made_the_app(make_app):
    # `create_app` of settings alone, as gunicorn and `flask run` call it.
    settings = make_app.settings(model="demo/guide", script=None, auth_tokens=("t",))
    app = create_app(settings)
    try:
        refused(app.test_client().get("/api/sessions"), 401, "UNAUTHORIZED")
        assert app.test_client().get("/api/sessions", headers=bearer("t")).status_code == 200
    finally:
        app.extensions["opencode"].stop(0.0)


def test_approval_needs_its_scope_and_the_request_stays_open_without(make_app):
    from opencode.provider.port import Text, ToolCall, Usage

    call = ToolCall("call_1", "bash", {"command": "true"})
    app = make_app(
        [[call, Usage(1, 1)], [Text("ok"), Usage(1, 1)]],
        auth_tokens=("anna:read+write:driver", "anna:approve:approver"), permission={"bash": "ask"},
    )  # fmt: skip
    client = app.test_client()
    session_id = create(client, bearer("driver"))
    opened = say(client, session_id, headers=bearer("driver"))
    asked = opened.until("permission_request")[-1].data
    address = f"/api/session/{session_id}/permission/{asked['permission_id']}"

    refused(client.post(address, json={"response": "once"}, headers=bearer("driver")), 403, "FORBIDDEN", "approve")
    assert client.post(address, json={"response": "once"}, headers=bearer("approver")).json == {"success": True}
    assert opened.rest()[-1].data["status"] == "completed"


def test_a_wrong_token_a_thousand_times_does_not_slow_a_right_one(make_app):
    client = make_app(auth_tokens=TOKENS, rate_limit=True, rate_limit_max_requests=2).test_client()
    for _ in range(1000):
        assert client.get("/api/sessions", headers=bearer("wrong")).status_code in {401, 429}

    assert client.get("/api/sessions", headers=bearer(ANNA)).status_code == 200


def test_everything_belongs_to_the_local_owner_while_no_token_is_asked_for(local):
    session_id = create(local)
    assert local.get(f"/api/session/{session_id}", headers=bearer("whatever")).status_code == 200
    assert turn(local, session_id)[-1].name == "done"


def test_several_owners_are_refused_unless_they_are_said_to_trust_one_another(make_app):
    with pytest.raises(SettingsError, match="OPENCODE_SHARED_SHELL=on"):
        make_app(auth_tokens=("anna:a-secret", "bert:b-secret"), shared_shell=False)

    assert make_app(auth_tokens=("anna:a-secret", "anna:read:b-secret"), shared_shell=False)
