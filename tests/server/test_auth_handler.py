"""A custom auth handler: only a clear yes lets in (API section 8)."""

import asyncio
import logging
import threading
from contextlib import suppress

import pytest

from opencode.errors import Forbidden, SettingsError
from opencode.server.authentication import Authenticator
from opencode.server.credentials import Credentials
from opencode.settings import Settings
from tests.server.talk import create, refused


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def asked(make_app, handler, token="t", **settings):
    return make_app(auth_handler=handler, **settings).test_client().get("/api/sessions", headers=bearer(token))


def coroutine_never_awaited(_token):
    async def check():
        return True

    async def forgetful():
        return check()

    return forgetful()


async def slow_no(_token):
    await asyncio.sleep(0)
    return False


async def failing(_token):
    raise RuntimeError("database of tokens is away: password hunter2")


def failing_at_once(token):
    raise RuntimeError(f"no {token}")


class Truthy:
    def __bool__(self):
        return True

    def __eq__(self, other):
        return True

    __hash__ = None


NO = [
    *(False, None, 0, 1, 1.0, "", b"anna", [True], {"owner": "anna"}, ("anna",), object(), Truthy(), asyncio, NotImplemented),
    *("Anna", "an na", "anna/../bert", "a" * 33, "anna\n", "\u00e4nna", "anna:read", "*"),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers():
    """What the handlers of `answering` say at the moment."""
    return [True]


@pytest.fixture(scope="module")
def answering(make_lasting_app, answers):
    """A server with a plain handler, and one with an async one."""

    async def awaited(_token):
        return answers[0]

    return [make_lasting_app(auth_handler=handler) for handler in (lambda _token: answers[0], awaited)]


@pytest.mark.parametrize("answer", NO, ids=lambda answer: repr(answer)[:30])
def test_whatever_is_no_clear_yes_lets_nobody_in(answering, answers, answer):
    for app in answering:
        answers[0] = answer
        refused(app.test_client().get("/api/sessions", headers=bearer("t")), 401, "UNAUTHORIZED")
        answers[0] = True
        assert app.test_client().get("/api/sessions", headers=bearer("t")).status_code == 200


@pytest.mark.parametrize("handler", [coroutine_never_awaited, slow_no, failing, failing_at_once])
def test_a_coroutine_or_a_failure_lets_nobody_in_and_says_why_in_the_log_only(make_app, handler, caplog):
    with caplog.at_level(logging.ERROR, "opencode"):
        error = refused(asked(make_app, handler, "bad-token-1"), 401, "UNAUTHORIZED")

    assert "hunter2" not in str(error)
    assert "bad-token-1" not in caplog.text + str(error)
    assert (handler is slow_no) == ("auth handler" not in caplog.text)
    if handler is failing:
        assert "database of tokens is away" in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("answer", "owner"), [(True, "default"), ("anna", "anna"), ("a-b_9", "a-b_9")])
def test_true_or_a_name_lets_in_as_that_owner(make_app, is_async, answer, owner):
    def plain(token):
        return answer if token == "right" else False

    async def awaited(token):
        await asyncio.sleep(0.001)
        return plain(token)

    app = make_app(auth_handler=awaited if is_async else plain)
    client = app.test_client()

    session_id = create(client, bearer("right"))
    assert app.extensions["opencode"].sessions.store.get(owner, session_id).owner == owner
    refused(client.get("/api/sessions", headers=bearer("wrong")), 401, "UNAUTHORIZED")


def test_a_handler_turns_authentication_on_and_is_asked_with_the_token_as_it_came(make_app):
    seen = []
    client = make_app(auth_handler=lambda token: bool(seen.append(token)) or True).test_client()

    refused(client.get("/api/sessions"), 401, "UNAUTHORIZED")
    refused(client.get("/api/sessions", headers={"Authorization": "Basic right"}), 401, "UNAUTHORIZED")
    refused(client.get("/api/sessions", headers=bearer("")), 401, "UNAUTHORIZED")
    assert seen == []
    assert client.get("/api/sessions", headers=bearer("A b:c")).status_code == 200
    assert client.get("/health").status_code == 200
    assert seen == ["A b:c"]
    assert client.application.config["NEW_TOKEN"] is None


def test_expressly_off_stays_off(make_app):
    client = make_app(auth_handler=lambda _token: False, auth=False).test_client()

    assert client.get("/api/sessions").status_code == 200
    refused(client.get("/api/sessions", environ_overrides={"REMOTE_ADDR": "8.8.8.8"}), 403, "FORBIDDEN")


def test_tokens_of_the_settings_are_looked_at_first(make_app):
    seen = []
    client = make_app(
        auth_tokens=("anna:read:eyes",), auth_handler=lambda token: bool(seen.append(token))
    ).test_client()

    assert client.get("/api/sessions", headers=bearer("eyes")).status_code == 200
    refused(client.post("/api/session", headers=bearer("eyes")), 403, "FORBIDDEN", "write")
    refused(client.get("/api/sessions", headers=bearer("other")), 401, "UNAUTHORIZED")
    assert seen == ["other"]


def test_owners_that_a_handler_names_do_not_see_one_another(make_app):
    client = make_app(auth_handler=lambda token: token).test_client()
    session_id = create(client, bearer("anna"))

    refused(client.get(f"/api/session/{session_id}", headers=bearer("bert")), 404, "SESSION_NOT_FOUND")
    assert client.get(f"/api/session/{session_id}", headers=bearer("anna")).status_code == 200


def test_a_second_owner_is_refused_unless_they_are_said_to_trust_one_another(make_app, caplog):
    client = make_app(auth_handler=lambda token: token, shared_shell=False).test_client()

    assert client.get("/api/sessions", headers=bearer("anna")).status_code == 200
    refused(client.get("/api/sessions", headers=bearer("bert")), 403, "FORBIDDEN", "OPENCODE_SHARED_SHELL=on")
    assert client.get("/api/sessions", headers=bearer("anna")).status_code == 200
    assert "OPENCODE_SHARED_SHELL=on" in caplog.text


def test_a_second_owner_comes_in_where_commands_are_confined(app):
    services = app.extensions["opencode"]
    for sandbox, least in (("off", 1), ("auto", 1), ("require", 2)):
        settings = Settings(auth=True, sandbox=sandbox)
        door = Authenticator(settings, Credentials(services), handler=lambda token: token)
        found = set()
        for name in ("anna", "bert"):
            with suppress(Forbidden):
                found.add(door.by_token(name).owner)
        assert len(found) == least, sandbox


def test_many_async_checks_run_side_by_side(make_app):
    """A slow look-up of one caller holds up no other: all are under way before the first one ends."""
    waiting, all_there = [], None

    async def together(token):
        nonlocal all_there
        all_there = all_there or asyncio.Event()
        waiting.append(token)
        if len(waiting) == 8:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), 8)
        return True

    app = make_app(auth_handler=together)
    statuses = []

    def ask(token):
        statuses.append(app.test_client().get("/api/sessions", headers=bearer(token)).status_code)

    threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert statuses == [200] * 8


def test_tickets_and_cookies_of_a_handlers_token_die_when_it_says_no(make_app):
    valid = {"right"}
    client = make_app(auth_handler=lambda token: token in valid).test_client(use_cookies=False)
    ticket = client.post("/api/ticket", json={"path": "/tui/state"}, headers=bearer("right")).json["ticket"]
    cookie = client.post("/api/login", json={"token": "right"}).headers["Set-Cookie"].partition(";")[0]
    refused(client.post("/api/login", json={"token": "wrong"}), 401, "UNAUTHORIZED")

    assert client.get(f"/tui/state?ticket={ticket}").status_code == 200
    assert client.get("/tui/state", headers={"Cookie": cookie}).status_code == 200
    valid.clear()
    refused(client.get(f"/tui/state?ticket={ticket}"), 401, "UNAUTHORIZED")
    refused(client.get("/tui/state", headers={"Cookie": cookie}), 401, "UNAUTHORIZED")


def test_a_handler_does_not_make_up_for_a_foreign_origin(make_app):
    seen = []
    client = make_app(auth_handler=lambda token: bool(seen.append(token)) or True).test_client()

    headers = {**bearer("right"), "Origin": "https://evil.example"}
    refused(client.get("/api/sessions", headers=headers), 403, "FORBIDDEN", "Origin")
    assert seen == []


def test_settings_that_contradict_stop_the_start_with_a_handler_too(make_app):
    with pytest.raises(SettingsError, match="OPENCODE_AUTH_TOKENS"):
        make_app(auth_handler=lambda _token: True, auth_tokens=("",))
