"""The same server on a laptop, behind nginx, and on a platform that ends TLS: who comes in there, and who does not.

Requests look as they do when they arrive. nginx sends what `docs/security.md` tells to configure; a platform sends its
own name as Host and says by forwarded headers, or not at all, that people came by https.
"""

import pytest

from tests.security.door import ANNA, bearer, ways
from tests.server.talk import create, refused

TOKEN = (f"anna:{ANNA}",)
#: What the Host, Origin and hops of each place look like: settings, headers of a person's browser.
PLACES = {
    "laptop": ({}, {"Host": "localhost:3000", "Origin": "http://localhost:3000"}),
    "laptop by address": ({}, {"Host": "127.0.0.1:3000", "Origin": "http://127.0.0.1:3000"}),
    "nginx": (
        {"auth_tokens": TOKEN, "trusted_proxies": 1},
        {"Host": "box.example", "Origin": "https://box.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "8.8.8.8"},
    ),
    "nginx on another port": (
        {"auth_tokens": TOKEN, "trusted_proxies": 1},
        {"Host": "box.example:8443", "Origin": "https://box.example:8443", "X-Forwarded-Proto": "https"},
    ),
    "nginx that passes no Host on": (
        {"auth_tokens": TOKEN, "public_url": "https://box.example"},
        {"Host": "localhost:3000", "Origin": "https://box.example"},
    ),
    "platform with its address told": (
        {"auth_tokens": TOKEN, "host": "0.0.0.0", "public_url": "https://app.platform.example"},
        {"Host": "app.platform.example", "Origin": "https://app.platform.example", "X-Forwarded-Proto": "https"},
    ),
    "platform that told nothing": (
        {"auth_tokens": TOKEN, "host": "0.0.0.0"},
        {"Host": "app-12.platform.example", "Origin": "https://app-12.platform.example", "X-Forwarded-For": "8.8.8.8"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(PLACES))
def place(request, make_lasting_app):
    settings, headers = PLACES[request.param]
    app = make_lasting_app(**settings)
    token = {"Authorization": f"Bearer {ANNA}"} if settings else {}
    return app, {**headers, **token}


def test_the_servers_own_page_comes_in_everywhere(place):
    app, headers = place
    client = app.test_client(use_cookies=False)

    session_id = create(client, {**headers, "Sec-Fetch-Site": "same-origin"})
    assert client.get(f"/api/session/{session_id}", headers=headers).status_code == 200
    no_origin = {name: value for name, value in headers.items() if name != "Origin"}
    follow = client.get(f"/api/session/{session_id}/message?until=end", headers=no_origin)
    assert follow.status_code == 200
    follow.close()


def test_another_page_comes_in_nowhere_on_no_route(place):
    app, headers = place
    client = app.test_client(use_cookies=False)
    _, _, host = headers["Origin"].partition("://")
    for origin in (
        "https://evil.example",
        f"https://{host}.evil.example",
        f"https://evil.{host}",
        f"ftp://{host}",
        "null",
    ):
        for way in ways(app):
            if not way.is_health:
                given = {**headers, "Origin": origin}
                refused(client.open(way.path("ses_1"), method=way.method, headers=given), 403, "FORBIDDEN", "Origin")


@pytest.mark.parametrize("settings", [{"public_url": "https://box.example"}, {"trusted_proxies": 1}])
def test_where_the_scheme_is_known_a_plain_page_of_the_same_name_is_another(make_app, settings):
    """Who can write into the plain connection is not who may call."""
    client = make_app(auth_tokens=TOKEN, **settings).test_client()
    headers = {**bearer(ANNA), "Host": "box.example", "X-Forwarded-Proto": "https"}

    assert client.get("/api/sessions", headers={**headers, "Origin": "https://box.example"}).status_code == 200
    plain = {**headers, "Origin": "http://box.example"}
    refused(client.get("/api/sessions", headers=plain), 403, "FORBIDDEN", "Origin 'http://box.example' is not allowed")


def test_a_proxy_that_does_not_say_the_scheme_is_told_what_to_do(make_app):
    client = make_app(auth_tokens=TOKEN, trusted_proxies=1).test_client()
    headers = {**bearer(ANNA), "Host": "box.example", "Origin": "https://box.example"}

    refused(
        client.get("/api/sessions", headers=headers),
        403,
        "FORBIDDEN",
        "X-Forwarded-Proto",
        "OPENCODE_PUBLIC_URL=https://box.example",
    )


def test_of_a_trusted_hop_only_the_last_word_counts(make_app):
    """What a client writes into the forwarded headers itself stands before what the proxy adds."""
    client = make_app(auth_tokens=TOKEN, trusted_proxies=1, allowed_hosts=("box.example",)).test_client()
    headers = {**bearer(ANNA), "Host": "box.example"}

    refused(
        client.get("/api/sessions", headers={**headers, "X-Forwarded-Host": "box.example, evil.example"}),
        403,
        "FORBIDDEN",
        "Host",
    )
    fine = client.get("/api/sessions", headers={**headers, "X-Forwarded-Host": "evil.example, box.example"})
    assert fine.status_code == 200


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For"])
def test_a_hop_that_is_not_trusted_changes_nothing(make_app, name):
    client = make_app(auth_tokens=TOKEN, allowed_hosts=("box.example",)).test_client()
    headers = {**bearer(ANNA), "Host": "evil.example", name: "box.example"}

    refused(client.get("/api/sessions", headers=headers), 403, "FORBIDDEN", "Host")


@pytest.mark.parametrize(
    "name", ["Via", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "Forwarded", "X-Forwarded-For"]
)
def test_a_laptops_server_put_behind_a_proxy_by_a_slip_answers_nobody(make_app, name):
    client = make_app().test_client()

    for way in ways(client.application):
        if not way.is_health:
            headers = {"Host": "localhost", name: "1.1 proxy"}
            response = client.open(way.path("ses_1"), method=way.method, headers=headers)
            refused(response, 403, "FORBIDDEN", "OPENCODE_AUTH_TOKENS")
