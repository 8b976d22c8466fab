"""`/api/session/<id>/message` and turns: starting, following, aborting (API sections 3 and 4)."""

from flask import Blueprint, Response, g, request
from werkzeug.datastructures import MIMEAccept

from opencode.errors import NotAcceptable, Unavailable
from opencode.records import Turn
from opencode.server import schemas, views
from opencode.server.answers import BEAT_S, event_stream, json_response, session_stream
from opencode.server.context import idempotency_key, limits, owner, sessions
from opencode.server.routes import route
from opencode.session.service import Following

messages = Blueprint("messages", __name__, url_prefix="/api")

_EVENT_STREAM, _JSON = "text/event-stream", "application/json"
#: Of a `Last-Event-ID`: more than any log has, and few enough to be read as a number.
_DIGITS = 18


@messages.post("/session/<session_id>/message")
@route(
    summary="Start a turn and stream it",
    body=schemas.SendMessage,
    answer=schemas.TurnAnswer,
    streams="session",
    codes=("SESSION_BUSY", "IDEMPOTENCY_CONFLICT"),
    also=((202, "With `Prefer: respond-async`: begun, or queued", schemas.TurnAccepted),),
    scope="write",
)
def send_message(session_id: str, body: schemas.SendMessage) -> Response:
    wants_json = _wants_json()
    with limits().open_stream(owner()) as stream:
        turn = sessions().send(
            owner(), session_id, body.content, model=body.model, when_busy=body.when_busy, key=idempotency_key()
        )
        g.turn_id = turn.id
        following = sessions().follow_turn(turn, beat_s=BEAT_S)
        if _wants_no_wait():
            return json_response(schemas.TurnAccepted(turn_id=turn.id, seq=following.after).model_dump(), status=202)
        if wants_json:
            return _wait(turn, following)
        return event_stream(session_stream(following, session_id), stream.hand_over())


@messages.get("/session/<session_id>/message")
@route(
    summary="Follow a session's events",
    query=schemas.FollowQuery,
    streams="session",
    also=((204, "With `?turn=`: nothing of it is left to see; an `EventSource` comes back no more", None),),
)
def follow_session(session_id: str, query: schemas.FollowQuery) -> Response:
    with limits().open_stream(owner()) as stream:
        following = _follow(session_id, query)
        if following is None:
            return Response(status=204)
        return event_stream(session_stream(following, session_id), stream.hand_over())


@messages.get("/session/<session_id>/turn/<turn_id>")
@route(summary="One turn: status, usage, its message", answer=schemas.TurnAnswer)
def get_turn(session_id: str, turn_id: str) -> schemas.TurnAnswer:
    return _turn_answer(sessions().turn(owner(), session_id, turn_id))


@messages.post("/session/<session_id>/abort")
@route(summary="Stop the running turn", body=schemas.Abort, answer=schemas.Aborted, scope="write")
def abort_turn(session_id: str, body: schemas.Abort) -> schemas.Aborted:
    return schemas.Aborted(aborted=sessions().abort(owner(), session_id, body.turn_id))


def _wants_json() -> bool:
    """Which of the two the Accept header likes better; a tie, or no header, is the stream."""
    if not request.headers.get("Accept"):
        return False
    # Parameters, such as a charset, make no other kind of it.
    accepted = MIMEAccept([(kind.partition(";")[0].strip(), q) for kind, q in request.accept_mimetypes])
    stream, json = accepted[_EVENT_STREAM], accepted[_JSON]
    if not stream and not json:
        raise NotAcceptable(f"Accept must admit {_EVENT_STREAM} or {_JSON}.")
    return bool(json > stream)


def _wants_no_wait() -> bool:
    """RFC 7240: `Prefer: respond-async`."""
    return any(item.strip().lower() == "respond-async" for item in request.headers.get("Prefer", "").split(","))


def _follow(session_id: str, query: schemas.FollowQuery) -> Following | None:
    live = query.until is None
    # It goes before the address' `after`: a browser reconnects with both, and the address has grown stale.
    header = request.headers.get("Last-Event-ID", "")
    seen = int(header[:_DIGITS]) if header.isascii() and header.isdigit() else None
    if query.turn is not None:
        turn = sessions().turn(owner(), session_id, query.turn)
        if turn.last_seq is not None and (seen or 0) >= turn.last_seq:
            return None  # by 204 an `EventSource` learns not to come back
        return sessions().follow_turn(turn, seen=seen or 0, beat_s=BEAT_S, live=live)
    if seen is not None:
        return sessions().follow(owner(), session_id, after=seen, beat_s=BEAT_S, live=live, resync=True)
    after = query.after if query.after is not None or live else 0
    return sessions().follow(owner(), session_id, after=after, beat_s=BEAT_S, live=live)


def _wait(turn: Turn, following: Following) -> Response:
    for _chunk in following.chunks:
        pass
    ended = sessions().turn(turn.owner, turn.session_id, turn.id)
    if ended.ended_at is None:
        raise Unavailable(
            f"The server is stopping; turn {turn.id} goes on. Ask again for it.", headers={"Retry-After": "2"}
        )
    return json_response(_turn_answer(ended).model_dump())


def _turn_answer(turn: Turn) -> schemas.TurnAnswer:
    return views.turn(turn, sessions().message(turn))
