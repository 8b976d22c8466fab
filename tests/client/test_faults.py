"""What the client makes of servers and networks that fail, each played by a peer of its own."""

import json

import pytest

from opencode.client import ApiError, Client, ProtocolError, SessionDeleted, StreamLost, Text, Unreachable
from tests.client.peer import Peer, answer, frame, refusal, stream
from tests.live.server import free_port

TURN = {"turn_id": "trn_1"}
HEAD = b"retry: 10\nid: 4\n\n"
START = frame(5, "turn_start", **TURN, content="hi", message_id="msg_1", model="demo/guide")
ONE = frame(6, "text", **TURN, content="one ")
TWO = frame(7, "text", **TURN, content="two")
DONE = frame(8, "done", **TURN, tokens=3, duration=5, status="completed", usage={}, events=4)
SESSION = json.dumps(
    {
        "session_id": "ses_1",
        "created_at": "",
        "model": None,
        "resolved_model": "",
        "tools": [],
        "directory": "",
        "title": "",
    }
).encode()


def play(answers, *, patience_s=20.0, token=None, act=None):
    """What a client gets of a turn (or of `act`) from a peer with these answers, and what it asked."""
    with Peer(answers) as peer, Client(peer.url, token, patience_s=patience_s) as client:
        try:
            result = (act or run_turn)(client)
        except Exception as exc:
            exc.requests = peer.requests
            raise
        return result, peer.requests


def run_turn(client):
    with client.turn("ses_1", "hi") as turn:
        events = list(turn)
    assert turn.turn_id == "trn_1"
    assert turn.done == events[-1]
    return events


def seqs(events):
    return [event.seq for event in events]


# Connections that are cut


def test_a_turn_comes_whole_in_one_piece():
    events, requests = play([stream(HEAD, START, ONE, TWO, DONE)])

    assert [event.name for event in events] == ["turn_start", "text", "text", "done"]
    assert [(own.method, own.path) for own in requests] == [("POST", "/api/session/ses_1/message")]
    assert requests[0].body == {"content": "hi", "when_busy": "reject"}


def test_a_cut_stream_goes_on_after_the_last_whole_event():
    body = HEAD + START + ONE + TWO
    cuts = [len(HEAD + START) + 1, len(HEAD + START + ONE) - 1, len(body) - 1]
    answers = [
        stream(body[: cuts[0]], cut=True),
        stream(b"retry: 10\nid: 5\n\n", ONE[:-1], cut=True),  # all of it but the blank line: no event yet
        stream(b"retry: 10\nid: 5\n\n", ONE, cut=True),
        stream(b"retry: 10\nid: 6\n\n", cut=True),
        stream(b"retry: 10\nid: 6\n\n", TWO, DONE),
    ]

    events, requests = play(answers)

    assert seqs(events) == [5, 6, 7, 8]
    assert [own.headers.get("last-event-id") for own in requests] == [None, "5", "5", "6", "6"]
    assert {own.path for own in requests[1:]} == {"/api/session/ses_1/message?turn=trn_1"}
    assert {own.method for own in requests[1:]} == {"GET"}


def test_a_stream_that_the_server_ends_without_done_goes_on_when_it_says():
    answers = [stream(HEAD, START, ONE, b"retry: 700\n\n"), stream(b"retry: 10\nid: 6\n\n", TWO, DONE)]

    events, requests = play(answers)

    assert seqs(events) == [5, 6, 7, 8]
    assert requests[1].at - requests[0].at >= 0.7


def test_a_turn_whose_answer_was_lost_is_asked_for_again_by_the_same_key():
    # The second time the server is there: the peer takes the request and says nothing.
    events, requests = play([stream(cut=True), b"", stream(HEAD, START, ONE, TWO, DONE)])

    assert seqs(events) == [5, 6, 7, 8]
    assert [own.method for own in requests] == ["POST"] * 3
    assert len({own.headers["idempotency-key"] for own in requests}) == 1
    assert requests[0].headers["idempotency-key"]


def test_each_turn_has_a_key_of_its_own_unless_one_is_given():
    def three_turns(client):
        keys = [None, None, "mine"]
        for key in keys:
            with client.turn("ses_1", "hi", key=key) as turn:
                list(turn)

    _, requests = play([stream(HEAD, START, ONE, TWO, DONE)] * 3, act=three_turns)

    keys = [own.headers["idempotency-key"] for own in requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_a_session_whose_answer_was_lost_is_created_once():
    def create(client):
        client.health()
        return client.create_session(title="x")

    health = answer(200, b'{"status": "ok", "uptime": 1, "version": "1"}')
    session, requests = play([health, b"", answer(200, SESSION)], act=create)

    assert session.session_id == "ses_1"
    assert requests[1].headers["idempotency-key"] == requests[2].headers["idempotency-key"]


def test_a_delete_whose_answer_was_lost_is_done():
    def delete(client):
        client.health()
        client.delete_session("ses_1")

    health = answer(200, b'{"status": "ok", "uptime": 1, "version": "1"}')
    gone = refusal(404, "SESSION_NOT_FOUND", "Session not found: ses_1")

    _, requests = play([health, b"", gone], act=delete)
    assert [own.method for own in requests] == ["GET", "DELETE", "DELETE"]
    with pytest.raises(ApiError, match="SESSION_NOT_FOUND"):
        play([health, gone], act=delete)


def test_an_abort_without_a_name_is_not_sent_twice():
    """The second one might meet the next turn."""

    def abort(client):
        client.health()
        client.abort("ses_1")

    health = answer(200, b'{"status": "ok", "uptime": 1, "version": "1"}')
    with pytest.raises(Unreachable) as caught:
        play([health, b"", answer(200, b'{"aborted": true}')], act=abort)
    assert len(caught.value.requests) == 2


def test_a_turn_of_which_nothing_is_known_yet_is_aborted_by_its_name():
    def abort(client):
        turn = client.turn("ses_1", "hi")
        assert turn.turn_id is None
        assert turn.abort()
        turn.close()

    accepted = answer(202, b'{"turn_id": "trn_1", "seq": 4}')
    _, requests = play([stream(HEAD), accepted, answer(200, b'{"aborted": true}')], act=abort)

    assert requests[1].headers["idempotency-key"] == requests[0].headers["idempotency-key"]
    assert requests[1].headers["prefer"] == "respond-async"
    assert requests[2].body == {"turn_id": "trn_1"}


# Refusals


@pytest.mark.parametrize(("status", "code"), [(429, "RATE_LIMIT_EXCEEDED"), (503, "UNAVAILABLE")])
def test_a_temporary_refusal_is_waited_out_as_long_as_it_says(status, code):
    wait = refusal(status, code, "later", Retry_After="1")

    events, requests = play([wait, stream(HEAD, START, ONE, TWO, DONE)])

    assert seqs(events) == [5, 6, 7, 8]
    assert requests[1].at - requests[0].at >= 1.0
    assert requests[0].headers["idempotency-key"] == requests[1].headers["idempotency-key"]


@pytest.mark.parametrize(
    "act",
    [run_turn, lambda client: client.models(), lambda client: client.create_session()],
    ids=["turn", "get", "post"],
)
def test_a_refusal_for_longer_than_patience_lasts_is_raised_at_once(act):
    with pytest.raises(ApiError) as caught:
        play([refusal(429, "RATE_LIMIT_EXCEEDED", "later", Retry_After="3600")], act=act)

    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == ("RATE_LIMIT_EXCEEDED", 429, 3600.0)
    assert len(caught.value.requests) == 1


def test_a_refusal_is_raised_with_all_that_the_envelope_says():
    body = {"code": "INVALID_REQUEST", "message": "x: no", "status": 400, "details": [{"field": "x", "message": "no"}]}

    with pytest.raises(ApiError, match=r"^x: no \(INVALID_REQUEST\)$") as caught:
        play([answer(400, json.dumps({"error": body}).encode(), X_Request_Id="r1")])

    error = caught.value
    assert (error.code, error.status, error.message) == ("INVALID_REQUEST", 400, "x: no")
    assert (error.details, error.request_id) == ([{"field": "x", "message": "no"}], "r1")
    assert len(error.requests) == 1


def test_a_refusal_while_reconnecting_ends_the_stream():
    gone = refusal(404, "SESSION_NOT_FOUND", "Session not found: ses_1")

    with pytest.raises(ApiError, match="Session not found: ses_1"):
        play([stream(HEAD, START, cut=True), gone])


def test_what_is_no_envelope_is_told_with_its_status():
    with pytest.raises(ApiError, match=r"answers 418, .*\(HTTP_418\)"):
        play([answer(418, b"<html>teapot", "text/html")])


def test_a_redirect_is_not_followed():
    """It would carry the token along."""
    with pytest.raises(ProtocolError, match=r"redirects to http://127\.0\.0\.1:1/"):
        play([answer(302, b"", Location="http://127.0.0.1:1/")], token="s3cret")


# Patience


def test_a_server_that_was_never_there_is_an_error_at_once():
    with (
        Client(f"http://127.0.0.1:{free_port()}", patience_s=3600) as client,
        pytest.raises(Unreachable, match="opencode serve"),
    ):
        client.turn("ses_1", "hi")


def test_a_stream_that_does_not_come_back_is_given_up_with_where_it_was():
    lost = [stream(HEAD, START, ONE, cut=True), *[refusal(503, "UNAVAILABLE", "stopping")] * 20]

    with pytest.raises(StreamLost, match=r"turn trn_1 is lost after event 6.*stopping") as caught:
        play(lost, patience_s=1.0)

    error = caught.value
    assert (error.session_id, error.turn_id, error.last_seq) == ("ses_1", "trn_1", 6)
    assert len(error.requests) > 2


# Streams that break the promise


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([START, TWO], r"Event 5 of ses_1 is followed by 7"),
        ([START, ONE, ONE], r"Event 6 of ses_1 is followed by 6"),
        ([START, ONE, START], r"Event 6 of ses_1 is followed by 5"),
        ([ONE], r"begins with text, not with its turn_start"),
        (
            [START, frame(6, "done", **TURN, tokens=3, duration=5, status="completed", usage={}, events=9)],
            r"9 events, and 2",
        ),
        ([START, b"id: 6\nevent: text\ndata: nonsense\n\n"], r"event text 6 cannot be read"),
        ([START, b"id: six\nevent: text\ndata: {}\n\n"], r"id is its number, not 'six'"),
    ],
    ids=["gap", "twice", "back", "no start", "count", "no JSON", "id"],
)
def test_a_stream_that_is_not_the_log_is_an_error(frames, message):
    with pytest.raises(ProtocolError, match=message) as caught:
        play([stream(HEAD, *frames)])
    assert len(caught.value.requests) == 1


def test_an_answer_that_is_no_stream_is_an_error():
    with pytest.raises(ProtocolError, match="answers 200 without a stream"):
        play([answer(200, b"<html>", "text/html")])


def test_an_answer_of_another_program_is_an_error():
    with pytest.raises(ProtocolError, match="not as an OpenCode server does"):
        play([answer(200, b'{"hello": 1}')], act=lambda client: client.models())


# Beside the log


def test_the_error_of_a_failing_store_is_not_an_event_and_the_turn_goes_on():
    failing = frame(None, "error", **TURN, message="the store is away", code="STORE_UNAVAILABLE")
    answers = [stream(HEAD, START, ONE, failing), stream(b"retry: 10\nid: 6\n\n", TWO, DONE)]

    events, _ = play(answers)

    assert [event.name for event in events] == ["turn_start", "text", "text", "done"]


def test_a_store_that_fails_for_good_is_named_when_patience_ends():
    failing = frame(None, "error", **TURN, message="the store is away", code="STORE_UNAVAILABLE")
    answers = [stream(HEAD, START, failing), *[stream(b"retry: 10\nid: 5\n\n", failing)] * 20]

    with pytest.raises(StreamLost, match="the store is away"):
        play(answers, patience_s=1.0)


def test_a_session_that_is_deleted_ends_its_turn_and_its_followers():
    deleted = frame(None, "session_deleted", session_id="ses_1")

    with pytest.raises(ApiError, match="Session deleted: ses_1"):
        play([stream(HEAD, START, deleted)])
    events, _ = play([stream(HEAD, ONE, deleted)], act=lambda client: list(client.follow("ses_1")))
    assert [type(event) for event in events] == [Text, SessionDeleted]


def test_another_stores_log_is_an_error_and_not_a_gap():
    resync = b'id: 3\nevent: resync\ndata: {"seq":3}\n\n'

    with pytest.raises(ProtocolError, match="ends at 3, before 90"):
        play([stream(b"retry: 10\nid: 3\n\n", resync)], act=lambda client: next(client.follow("ses_1", after=90)))


def test_a_follower_that_is_cut_before_any_event_knows_where_it_was():
    answers = [stream(HEAD, cut=True), stream(HEAD, START)]

    def first(client):
        with client.follow("ses_1") as events:
            return next(events)

    event, requests = play(answers, act=first)

    assert event.seq == 5
    assert [own.headers.get("last-event-id") for own in requests] == [None, "4"]


def test_what_a_step_declares_void_is_not_in_the_text():
    step = frame(7, "step", **TURN, step=1, attempt=2, discards_from=6)
    text = frame(8, "text", **TURN, content="again")
    done = frame(9, "done", **TURN, tokens=3, duration=5, status="completed", usage={}, events=5)

    def text_of(client):
        with client.turn("ses_1", "hi") as turn:
            list(turn)
        return turn.text

    assert play([stream(HEAD, START, ONE, step, text, done)], act=text_of)[0] == "again"


# Addresses


@pytest.mark.parametrize(
    "url", ["localhost:3000", "ftp://localhost", "http://", "http://me:secret@localhost", "http://x/?a=1"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match="address of a server") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_an_id_cannot_become_another_path():
    def ask(client):
        for text in ("../../health", "a/b?c", "..", ""):
            with pytest.raises(ApiError):
                client.get_session(text)

    _, requests = play([refusal(404, "SESSION_NOT_FOUND", "x")] * 4, act=ask)

    paths = [own.path.partition("?")[0] for own in requests]
    assert paths == ["/api/session/..%2F..%2Fhealth", "/api/session/a%2Fb%3Fc", "/api/session/-", "/api/session/-"]


def test_the_token_goes_with_every_request():
    _, requests = play([stream(HEAD, START, cut=True), stream(HEAD, ONE, TWO, DONE)], token="s3cret")

    assert [own.headers["authorization"] for own in requests] == ["Bearer s3cret"] * 2
