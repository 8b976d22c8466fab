"""`Server.use`: functions around every view, streams included (API sections 1 and 9)."""

import pytest
from werkzeug.exceptions import Forbidden

from opencode import errors
from opencode.server.middleware import checked
from tests.server.talk import create, follow, refused, say, turn
from tests.sse import check_turn


def test_middleware_runs_in_order_of_use_around_the_view(app):
    order = []

    def named(name):
        def middleware(request, call_next):
            order.append(f"{name} {request.method} {request.path}")
            response = call_next(request)
            response.headers.add("X-Seen", name)
            order.append(f"{name} {response.status_code}")
            return response

        return middleware

    app.middleware += [named("outer"), named("inner")]

    response = app.test_client().get("/api/sessions")

    assert order == ["outer GET /api/sessions", "inner GET /api/sessions", "inner 200", "outer 200"]
    assert response.headers.getlist("X-Seen") == ["inner", "outer"]


def test_what_returns_nothing_leaves_the_response_as_it_is(app):
    seen = []
    app.middleware += [
        lambda request, call_next: seen.append(call_next().status_code),
        lambda request, call_next: seen.append(request.method),
    ]

    assert app.test_client().get("/api/sessions").status_code == 200
    assert seen == ["GET", 200]


def test_the_view_runs_once_however_often_it_is_asked_for(app):
    app.middleware.append(lambda request, call_next: [call_next(), call_next()][1])

    client = app.test_client()
    create(client)

    assert len(client.get("/api/sessions").json["sessions"]) == 1


def test_a_stream_passes_through_as_it_comes(app):
    statuses = []

    def middleware(request, call_next):
        response = call_next()
        response.headers["X-Wrapped"] = "yes"
        statuses.append((response.status_code, response.mimetype))
        return response

    app.middleware.append(middleware)
    client = app.test_client()
    session = create(client)

    events = turn(client, session)

    check_turn(events, after=0)
    assert statuses[-1] == (200, "text/event-stream")


def test_a_middleware_that_gathers_a_stream_fails_alone(app, caplog):
    app.middleware.append(lambda request, call_next: call_next().get_data() and None)
    client = app.test_client()
    session = create(client)

    with_stream = say(client, session)

    check_turn(with_stream.rest(), after=0)
    assert "middleware" in caplog.text


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failing_middleware_is_logged_and_the_request_goes_on(app, caplog, when):
    def broken(request, call_next):
        if when == "after":
            call_next()
        raise RuntimeError("out of paper")

    app.middleware.append(broken)

    assert app.test_client().get("/api/sessions").status_code == 200
    assert "out of paper" in caplog.text


def test_what_gives_no_response_counts_as_a_failure(app, caplog):
    app.middleware.append(lambda request, call_next: 42)

    assert app.test_client().get("/api/sessions").status_code == 200
    assert "middleware" in caplog.text


def test_it_can_refuse_by_a_response_or_an_error_of_ours_or_of_werkzeug(app):
    client = app.test_client()

    app.middleware[:] = [lambda request, call_next: ("closed", 418)]
    assert client.get("/api/sessions").status_code == 418
    for error in (errors.Forbidden("not on Sundays"), Forbidden()):

        def refuse(request, call_next, error=error):
            raise error

        app.middleware[:] = [refuse]
        assert client.get("/api/sessions").status_code in {400, 403}
    app.middleware[:] = []
    assert client.get("/api/sessions").json["sessions"] == []


def test_a_stream_that_is_replaced_gives_its_place_back(make_app):
    app = make_app(rate_limit=True, max_streams=1)
    client = app.test_client()
    session = create(client)

    app.middleware[:] = [lambda request, call_next: call_next() and ("other", 200)]
    assert client.get(f"/api/session/{session}/message", buffered=True).text == "other"
    app.middleware.clear()

    follow(client, session).close()


def test_it_sees_what_the_view_refuses_but_nothing_of_who_may_not_come_in(make_app):
    app = make_app(auth_tokens=("secret-token",))
    client = app.test_client()
    seen = []
    app.middleware.append(lambda request, call_next: seen.append(call_next().status_code))
    headers = {"Authorization": "Bearer secret-token"}

    refused(client.get("/api/sessions"), 401, "UNAUTHORIZED")
    refused(client.get("/nope", headers=headers), 404, "NOT_FOUND")
    assert seen == []
    refused(client.post("/api/session", json={"modell": 1}, headers=headers), 400, "INVALID_REQUEST")
    refused(client.get("/api/session/missing", headers=headers), 404, "SESSION_NOT_FOUND")
    assert seen == [400, 404]


async def _coroutine(request, call_next):
    """What a translation from TypeScript may look like at first."""


@pytest.mark.parametrize("given", [_coroutine, 5, None])
def test_what_cannot_be_middleware_is_refused_at_once(given):
    with pytest.raises(TypeError, match="function"):
        checked(given)
