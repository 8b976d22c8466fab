"""Rate limits and caps (API section 8). Windows are long, so that nothing waits for one to pass."""

import threading
import uuid

import pytest
from werkzeug.test import EnvironBuilder

from opencode.provider.port import Text, Usage
from opencode.provider.scripted import Wait
from opencode.server.guesses import FREE, Guesses
from opencode.server.windows import BoundedMemory, network
from opencode.settings import Settings
from tests.server.talk import create, follow, path, refused, routes, say, stream

ANNA = {"Authorization": "Bearer anna-1"}
BERT = {"Authorization": "Bearer bert-2"}
TOKENS = ("anna:anna-1", "bert:bert-2")


@pytest.fixture
def limited(make_app):
    """Makes a client of an app whose limits are on."""

    def make(**settings):
        return make_app(rate_limit=True, **settings).test_client()

    return make


def too_many(response, setting: str) -> None:
    refused(response, 429, "RATE_LIMIT_EXCEEDED", setting)
    assert 1 <= int(response.headers["Retry-After"]) <= 61
    for name in ("Limit", "Remaining", "Reset"):
        assert response.headers[f"RateLimit-{name}"].isdigit()


def test_the_defaults_are_those_of_the_contract():
    settings = Settings()

    assert settings.rate_limit is True
    assert (settings.rate_limit_max_requests, settings.rate_limit_window_ms) == (100, 60_000)
    assert (settings.rate_limit_max_sessions, settings.max_streams, settings.max_turns) == (10, 100, 20)


def test_a_hundred_requests_a_window_pass_and_then_none(limited):
    client = limited()

    left = []
    for _ in range(100):
        response = client.get("/api/models")
        assert response.status_code == 200
        assert response.headers["RateLimit-Limit"] == "100"
        assert 0 < int(response.headers["RateLimit-Reset"]) <= 61
        left.append(int(response.headers["RateLimit-Remaining"]))

    assert left == list(range(99, -1, -1))
    for method, address in (("GET", "/api/models"), ("POST", "/api/session"), ("GET", "/tui/state")):
        too_many(client.open(address, method=method), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")


def test_health_never_counts_and_is_never_refused(limited):
    client = limited(rate_limit_max_requests=2)
    for _ in range(5):
        assert client.get("/health").status_code == client.get("/health/ready").status_code == 200

    assert client.get("/api/models").status_code == client.get("/api/models").status_code == 200
    too_many(client.get("/api/models"), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert client.get("/health").status_code == client.get("/health/ready").status_code == 200


@pytest.mark.parametrize(("method", "address", "status"), [("GET", "/nope", 404), ("PUT", "/api/session", 405)])
def test_unknown_routes_and_wrong_methods_count_with_all_others(limited, method, address, status):
    client = limited(rate_limit_max_requests=3)

    assert client.get("/api/models").status_code == 200
    for _ in range(2):
        assert client.open(address, method=method).status_code == status
    too_many(client.open(address, method=method), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    too_many(client.get("/api/models"), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")


def test_malformed_requests_count(limited):
    client = limited(rate_limit_max_requests=2)
    for _ in range(2):
        assert client.post("/api/session", data="{", content_type="application/json").status_code == 400
    too_many(client.get("/api/models"), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")


def test_preflights_do_not_count(limited):
    client = limited(rate_limit_max_requests=1, cors_origins=("https://a.example",))
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}

    for _ in range(5):
        assert client.options("/api/session", headers=headers).status_code == 200
    assert client.get("/api/models").status_code == 200
    too_many(client.get("/api/models"), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert client.options("/api/session", headers=headers).status_code == 200


def test_a_follower_that_comes_back_does_not_count(limited):
    client = limited(rate_limit_max_requests=2)
    session_id = create(client)

    for _ in range(5):
        assert follow(client, session_id, "?until=end", headers={"Last-Event-ID": "0"}).rest() == []
        stream(client.get("/tui/events", headers={"Last-Event-ID": "x-1"})).close()
    assert follow(client, session_id, "?until=end").rest() == []
    too_many(client.get(f"/api/session/{session_id}/message"), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert follow(client, session_id, "?until=end", headers={"Last-Event-ID": "0"}).rest() == []


def test_a_last_event_id_on_anything_but_a_stream_is_no_way_around_the_limit(limited):
    client = limited(rate_limit_max_requests=1)
    headers = {"Last-Event-ID": "0"}

    assert client.get("/api/sessions", headers=headers).status_code == 200
    too_many(client.get("/api/sessions", headers=headers), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    too_many(client.post("/api/session", headers=headers), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    too_many(client.get("/nope", headers=headers), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")


# By owner and by address


def at(address: str) -> dict[str, dict[str, str]]:
    return {"environ_overrides": {"REMOTE_ADDR": address}}


def test_requests_are_counted_by_owner_wherever_they_come_from(limited):
    client = limited(rate_limit_max_requests=3, auth_tokens=TOKENS)

    for number in range(3):
        assert client.get("/api/models", headers=ANNA, **at(f"10.0.0.{number}")).status_code == 200
    too_many(client.get("/api/models", headers=ANNA, **at("10.0.0.9")), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert client.get("/api/models", headers=BERT, **at("10.0.0.10")).status_code == 200


def test_requests_are_counted_by_address_whoever_sends_them(limited):
    client = limited(rate_limit_max_requests=2, auth_tokens=TOKENS)

    for headers in (ANNA, BERT):
        assert client.get("/api/models", headers=headers, **at("10.0.0.1")).status_code == 200
    too_many(client.get("/api/models", headers=BERT, **at("10.0.0.1")), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert client.get("/api/models", headers=BERT, **at("10.0.0.2")).status_code == 200


def test_nobody_uses_up_the_open_routes_of_others(limited):
    client = limited(rate_limit_max_requests=1, auth_tokens=TOKENS)

    for address in ("10.0.0.1", "10.0.0.2"):
        assert client.get("/openapi.json", **at(address)).status_code == 200
        too_many(client.get("/openapi.json", **at(address)), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")


def test_local_addresses_are_counted_apart(limited):
    client = limited(rate_limit_max_requests=1)

    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        assert client.get("/api/models", **at(address)).status_code == 200
        too_many(client.get("/api/models", **at(address)), "OPENCODE_RATE_LIMIT_MAX_REQUESTS")


def test_a_forwarded_address_counts_only_as_far_as_hops_are_trusted(limited):
    untrusted = limited(rate_limit_max_requests=1, auth_tokens=TOKENS)
    one_hop = limited(rate_limit_max_requests=1, auth_tokens=TOKENS, trusted_proxies=1)

    def ask(client, forwarded: str, headers):
        return client.get("/api/models", headers={**headers, "X-Forwarded-For": forwarded})

    assert ask(untrusted, "1.1.1.1", ANNA).status_code == 200
    refusal = ask(untrusted, "2.2.2.2", BERT)
    too_many(refusal, "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert "OPENCODE_TRUSTED_PROXIES=1" in refusal.text
    # What a client writes in front of its proxy's own entry is not believed.
    assert ask(one_hop, "9.9.9.9, 1.1.1.1", ANNA).status_code == 200
    refusal = ask(one_hop, "8.8.8.8, 1.1.1.1", BERT)
    too_many(refusal, "OPENCODE_RATE_LIMIT_MAX_REQUESTS")
    assert "OPENCODE_TRUSTED_PROXIES" not in refusal.text
    assert ask(one_hop, "9.9.9.9, 2.2.2.2", BERT).status_code == 200


# Sessions


def test_ten_sessions_a_window_can_be_created(limited):
    client = limited()
    for _ in range(10):
        create(client)

    too_many(client.post("/api/session"), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")
    assert len(client.get("/api/sessions").json["sessions"]) == 10
    assert client.post("/api/session", **at("127.0.0.2")).status_code == 200


def test_sessions_are_counted_by_owner(limited):
    client = limited(rate_limit_max_sessions=1, auth_tokens=TOKENS)

    assert client.post("/api/session", headers=ANNA).status_code == 200
    too_many(client.post("/api/session", headers=ANNA, **at("10.0.0.9")), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")
    assert client.post("/api/session", headers=BERT, **at("10.0.0.8")).status_code == 200


def test_sessions_are_counted_by_address_whoever_makes_them(limited):
    client = limited(rate_limit_max_sessions=1, auth_tokens=TOKENS)

    assert client.post("/api/session", headers=ANNA, **at("10.0.0.1")).status_code == 200
    too_many(client.post("/api/session", headers=BERT, **at("10.0.0.1")), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")
    # What was refused is charged to nobody.
    assert client.post("/api/session", headers=BERT, **at("10.0.0.2")).status_code == 200


def enter(client, text: str = "hi", **more):
    for body in ({"type": "text", "text": text}, {"type": "keypress", "key": "enter"}):
        response = client.post("/tui/input", json=body, **more)
    return response


def test_sessions_made_on_a_screen_and_forks_count_with_all_others(limited):
    client = limited(rate_limit_max_sessions=2)

    assert enter(client).status_code == 200
    session_id = client.get("/tui/state").json["session_id"]
    assert client.post(f"/api/session/{session_id}/fork").status_code == 200
    too_many(client.post("/api/session"), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")
    too_many(enter(client, query_string={"tui": "other"}), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")
    too_many(client.post(f"/api/session/{session_id}/fork"), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")
    assert len(client.get("/api/sessions").json["sessions"]) == 2
    assert client.get("/tui/state?tui=other").json["session_id"] is None


def test_a_session_that_is_asked_for_again_by_its_key_counts_once(limited):
    client = limited(rate_limit_max_sessions=1)
    headers = {"Idempotency-Key": "k"}

    first = client.post("/api/session", headers=headers)
    assert first.status_code == 200
    assert client.post("/api/session", headers=headers).json == first.json
    too_many(client.post("/api/session"), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")


def test_a_refusal_tells_of_the_limit_that_was_met(limited):
    client = limited(rate_limit_max_sessions=1)
    assert client.post("/api/session").headers["RateLimit-Limit"] == "100"

    refusal = client.post("/api/session").headers
    assert [refusal[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")] == [
        "1",
        "0",
        refusal["Retry-After"],
    ]


# Keystrokes


def key(client, **more):
    return client.post("/tui/input", json={"type": "text", "text": "a"}, **more)


def test_keys_have_a_limit_of_their_own(limited):
    client = limited(rate_limit_max_requests=2, rate_limit_max_keys=5)

    for left in range(4, -1, -1):
        response = key(client)
        assert response.status_code == 200
        assert (response.headers["RateLimit-Limit"], response.headers["RateLimit-Remaining"]) == ("5", str(left))
    too_many(key(client), "OPENCODE_RATE_LIMIT_MAX_KEYS")
    # What is malformed counts too, and other requests have not lost anything.
    too_many(client.post("/tui/input", json={}), "OPENCODE_RATE_LIMIT_MAX_KEYS")
    assert client.get("/tui/state").json["prompt"] == "aaaaa"


def test_a_fast_typist_is_not_held_up_and_pastes_at_once(limited):
    client = limited()

    # Twenty keys a second, for a quarter of a minute, and a page of text.
    assert {key(client).status_code for _ in range(300)} == {200}
    assert client.post("/tui/input", json={"type": "text", "text": "b" * 50_000}).status_code == 200
    assert Settings().rate_limit_max_keys / (Settings().rate_limit_window_ms / 1000) > 30


def test_keys_are_counted_by_owner_and_by_address(limited):
    client = limited(rate_limit_max_keys=1, auth_tokens=TOKENS)

    assert key(client, headers=ANNA, **at("10.0.0.1")).status_code == 200
    too_many(key(client, headers=ANNA, **at("10.0.0.2")), "OPENCODE_RATE_LIMIT_MAX_KEYS")
    too_many(key(client, headers=BERT, **at("10.0.0.1")), "OPENCODE_RATE_LIMIT_MAX_KEYS")
    assert key(client, headers=BERT, **at("10.0.0.3")).status_code == 200


# Wrong tokens


def guess(client, token: str = "wrong", **more):
    return client.get("/api/models", headers={"Authorization": f"Bearer {token}"}, **more)


def test_two_thousand_wrong_tokens_are_not_two_thousand_tries(limited):
    client = limited(auth_tokens=TOKENS)
    statuses = [guess(client, f"guess-{number}").status_code for number in range(2000)]

    assert set(statuses) == {401, 429}
    assert statuses[:FREE] == [401] * FREE
    assert statuses.count(401) < FREE + 10
    refusal = refused(guess(client), 429, "RATE_LIMIT_EXCEEDED", "OPENCODE_AUTH_TOKENS")
    assert "Bearer" not in str(refusal)
    assert int(guess(client).headers["Retry-After"]) >= 1


def test_a_right_token_is_never_asked_to_wait_for_somebodys_wrong_ones(limited):
    client = limited(auth_tokens=TOKENS)
    for _ in range(50):
        guess(client)
    assert guess(client).status_code == 429

    for headers in (ANNA, BERT):
        assert client.get("/api/models", headers=headers).status_code == 200
    # A right one does not make the guesser's slate clean either.
    assert guess(client).status_code == 429


@pytest.mark.parametrize("guess", [{"token": "wrong-token-{}"}, {"code": "wrong-code-{}"}])
def test_guesses_at_the_sign_in_are_slowed_like_any_other(limited, guess):
    client = limited(auth_tokens=("ann:the-right-token-1",))
    field, value = next(iter(guess.items()))

    answers = [client.post("/api/login", json={field: value.format(n)}).status_code for n in range(30)]

    assert answers[:5] == [401] * 5
    assert answers[-10:] == [429] * 10


def test_wrong_tokens_are_counted_by_network(limited):
    client = limited(auth_tokens=TOKENS)
    for number in range(FREE):
        assert guess(client, **at(f"2001:db8:1:2::{number:x}")).status_code == 401

    assert guess(client, **at("2001:db8:1:2:ffff::1")).status_code == 429
    assert guess(client, **at("2001:db8:1:3::1")).status_code == 401
    assert guess(client, **at("10.0.0.1")).status_code == 401


def test_wrong_tokens_behind_a_proxy_are_counted_by_trusted_hops_only(limited):
    def ask(client, forwarded: str):
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": forwarded}
        return client.get("/api/models", headers=headers).status_code

    untrusted, two_hops = limited(auth_tokens=TOKENS), limited(auth_tokens=TOKENS, trusted_proxies=2)
    for number in range(FREE):
        assert ask(untrusted, f"1.1.1.{number}") == 401
        assert ask(two_hops, f"9.9.9.{number}, 1.1.1.1, 10.0.0.1") == 401
    assert ask(untrusted, "1.1.1.99") == 429
    assert ask(two_hops, "9.9.9.99, 1.1.1.1, 10.0.0.1") == 429
    assert ask(two_hops, "1.1.1.1, 2.2.2.2, 10.0.0.1") == 401


def test_who_sends_no_token_is_told_so_and_counts_as_no_guesser(limited):
    client = limited(auth_tokens=TOKENS)
    for _ in range(FREE * 3):
        assert client.get("/api/models").status_code == 401
    assert guess(client).status_code == 401


def test_the_wait_grows_has_an_end_and_is_forgotten():
    now = [1000.0]
    guesses = Guesses(lambda: now[0])

    assert [guesses.failed("a") for _ in range(FREE)] == [0] * FREE
    waits = []
    for _ in range(15):
        waits.append(guesses.failed("a"))
        # Asking again meanwhile makes it no longer.
        assert guesses.failed("a") == waits[-1]
        now[0] += waits[-1]
        assert guesses.failed("a") == 0
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert max(waits) == waits[-1] == 900
    assert guesses.failed("b") == 0
    now[0] += 900 + 901
    assert [guesses.failed("a") for _ in range(FREE)] == [0] * FREE


# Memory


def test_a_flood_of_addresses_takes_bounded_memory():
    guesses, windows, passed = Guesses(), BoundedMemory(), 0
    for number in range(30_000):
        guesses.failed(str(number))
        windows.acquire_entry(str(number), 10, 60)

        passed += windows.acquire_entry("in use", 10, 600)

    # One that is in use is not forgotten for them.
    assert passed == 10
    assert len(guesses) == 10_000
    assert len(windows) == 20_000
    assert windows.get_moving_window("29999", 10, 60)[1] == 1


def test_windows_move_and_old_ones_are_swept():
    now = [1000.0]
    windows = BoundedMemory(clock=lambda: now[0])

    assert [windows.acquire_entry("a", 2, 10) for _ in range(3)] == [True, True, False]
    assert windows.get_moving_window("a", 2, 10) == (1000.0, 2)
    now[0] = 1010.5
    assert windows.acquire_entry("a", 2, 10)
    assert windows.get_moving_window("a", 2, 10) == (1010.5, 1)
    assert windows.acquire_entry("b", 2, 10)
    now[0] = 1030.0
    assert windows.acquire_entry("c", 2, 10)
    assert len(windows) == 1
    assert windows.reset() == 1
    assert windows.acquire_entry("c", 1, 10)
    windows.clear("c")
    assert windows.acquire_entry("c", 1, 10)


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("not, an address", "unknown"),
    ],
)
def test_whom_an_address_stands_for(address, counts_as):
    assert network(address) == counts_as


def test_what_was_malformed_counts_as_no_session(limited):
    client = limited(rate_limit_max_sessions=1)
    for body in ({"surprise": 1}, {"title": 1}):
        refused(client.post("/api/session", json=body), 400, "INVALID_REQUEST")

    assert client.post("/api/session").status_code == 200
    too_many(client.post("/api/session"), "OPENCODE_RATE_LIMIT_MAX_SESSIONS")


# Open streams


@pytest.fixture
def capped(limited):
    """A client of an app where each owner may have two open streams, with a session."""
    client = limited(max_streams=2, auth_tokens=TOKENS)
    return client, create(client, ANNA)


def test_open_streams_of_every_kind_are_capped_by_owner(capped):
    client, session_id = capped
    first = follow(client, session_id, headers=ANNA)
    second = stream(client.get("/tui/events", headers=ANNA))

    for address in (f"/api/session/{session_id}/message", "/tui/events"):
        too_many(client.get(address, headers=ANNA), "OPENCODE_MAX_STREAMS")
        too_many(client.get(address, headers={**ANNA, "Last-Event-ID": "0"}), "OPENCODE_MAX_STREAMS")
    too_many(
        client.post(f"/api/session/{session_id}/message", json={"content": "x"}, headers=ANNA), "OPENCODE_MAX_STREAMS"
    )
    assert client.get(f"/api/session/{session_id}", headers=ANNA).json["message_count"] == 0
    # Another owner has streams of its own, and one that closes makes room.
    stream(client.get("/tui/events", headers=BERT)).close()
    first.close()
    third = follow(client, session_id, headers=ANNA)
    second.close()
    third.close()


def test_a_stream_that_has_ended_or_was_refused_takes_no_room(capped):
    client, session_id = capped
    for _ in range(3):
        say(client, session_id, headers=ANNA).rest()
        follow(client, session_id, "?until=end", headers=ANNA).rest()
        client.post(
            f"/api/session/{session_id}/message", json={"content": "x"}, headers={**ANNA, "Accept": "application/json"}
        )
        refused(client.get("/api/session/ses_no/message", headers=ANNA), 404, "SESSION_NOT_FOUND")
        refused(client.get(f"/api/session/{session_id}/message?after=9999", headers=ANNA), 400, "INVALID_REQUEST")
        refused(client.get(f"/api/session/{session_id}/message?turn=no", headers=ANNA), 404, "NOT_FOUND")
        for address in (f"/api/session/{session_id}/message", "/tui/events"):
            with client.head(address, headers=ANNA) as response:
                assert response.status_code == 200

    streams = [follow(client, session_id, headers=ANNA) for _ in range(2)]
    too_many(client.get("/tui/events", headers=ANNA), "OPENCODE_MAX_STREAMS")
    for own in streams:
        own.close()


@pytest.mark.parametrize("address", ["/api/session/{}/message", "/tui/events"])
def test_a_client_that_leaves_before_the_first_byte_takes_no_room(capped, address):
    client, session_id = capped
    for _ in range(5):
        started = []
        environ = EnvironBuilder(address.format(session_id), headers=ANNA).get_environ()
        body = client.application(environ, lambda *head, started=started: started.append(head))
        assert started[0][0] == "200 OK"
        body.close()


def test_a_stream_that_is_closed_twice_makes_room_once(capped):
    client, session_id = capped
    response = client.get(f"/api/session/{session_id}/message", headers=ANNA)
    response.close()
    response.close()

    streams = [follow(client, session_id, headers=ANNA) for _ in range(2)]
    too_many(client.get("/tui/events", headers=ANNA), "OPENCODE_MAX_STREAMS")
    for own in streams:
        own.close()


# Running turns


def test_running_turns_are_capped_by_owner(make_app):
    going = threading.Event()
    app = make_app([[Text("a"), Wait(going), Usage(1, 1)]], rate_limit=True, max_turns=1, auth_tokens=TOKENS)
    client = app.test_client()
    first, second, other = create(client, ANNA), create(client, ANNA), create(client, BERT)
    opened = say(client, first, headers=ANNA)
    opened.until("text")

    too_many(client.post(f"/api/session/{second}/message", json={"content": "x"}, headers=ANNA), "OPENCODE_MAX_TURNS")
    assert say(client, other, headers=BERT).until("text")
    going.set()
    opened.rest()
    assert client.get(f"/api/session/{second}", headers=ANNA).json["message_count"] == 0


def test_off_lifts_limits_and_caps(make_app):
    client = make_app(
        rate_limit=False, rate_limit_max_requests=1, rate_limit_max_sessions=1, max_streams=1, max_turns=1
    ).test_client()
    sessions = [create(client) for _ in range(4)]
    followers = [follow(client, session_id) for session_id in sessions]

    for session_id in sessions:
        assert say(client, session_id).rest()[-1].name == "done"
    for own in followers:
        own.close()
    assert client.get("/nope").status_code == 404
    assert "RateLimit-Limit" not in client.get("/api/models").headers


def test_every_route_but_health_is_limited(make_app):
    app = make_app(rate_limit=True, rate_limit_max_requests=1, rate_limit_max_keys=1)
    client = app.test_client()
    assert client.get("/api/models").status_code == key(client).status_code == 200

    for method, rule, _ in routes(app):
        address = path(rule, uuid.uuid4().hex)
        if rule.startswith(("/health", "/static")):  # of a page its files do not count
            assert client.open(address, method=method).status_code == 200
        else:
            counted = "KEYS" if rule == "/tui/input" else "REQUESTS"
            too_many(client.open(address, method=method), f"OPENCODE_RATE_LIMIT_MAX_{counted}")
