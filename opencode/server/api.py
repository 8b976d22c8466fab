"""`/api`: sessions, turns and models (API sections 2 to 4). Views translate; the session layer decides."""

from flask import Blueprint, Response, current_app, g, request

from opencode.errors import NotAcceptable, Unavailable
from opencode.server import schemas, views
from opencode.server.answers import BEAT_S, event_stream, json_response, session_stream
from opencode.server.limits import Limits
from opencode.server.routes import route
from opencode.session.service import Following, SessionService
from opencode.storage.port import Turn

_EVENT_STREAM, _JSON = "text/event-stream", "application/json"


def blueprint(sessions: SessionService, limits: Limits) -> Blueprint:
    """Make the blueprint over the given services."""
    api = Blueprint("api", __name__, url_prefix="/api")
    _session_views(api, sessions, limits)
    _message_views(api, sessions, limits)
    return api


def _session_views(api: Blueprint, sessions: SessionService, limits: Limits) -> None:
    @api.post("/session")
    @limits.sessions
    @route(summary="Create a session", body=schemas.CreateSession, answer=schemas.SessionCreated, scope="write")
    def create_session(body: schemas.CreateSession) -> schemas.SessionCreated:
        session = sessions.create(
            g.caller.owner,
            model=body.model,
            tools=None if body.tools is None else tuple(body.tools),
            directory=body.directory,
            title=body.title,
            system=body.system,
            rules=body.permission,
        )
        return views.created(session)

    @api.get("/sessions")
    @api.get("/session", endpoint="list_sessions_too")
    @route(summary="List sessions, newest first", query=schemas.ListQuery, answer=schemas.SessionList)
    def list_sessions(query: schemas.ListQuery) -> schemas.SessionList:
        page = sessions.page(g.caller.owner, limit=query.limit, cursor=query.cursor, query=query.q)
        return views.session_list(page)

    @api.get("/session/<session_id>")
    @route(summary="A session with its messages", query=schemas.PageQuery, answer=schemas.SessionDetail)
    def get_session(session_id: str, query: schemas.PageQuery) -> schemas.SessionDetail:
        found = sessions.snapshot(g.caller.owner, session_id, limit=query.limit, before=query.before)
        return views.detail(*found)

    @api.patch("/session/<session_id>")
    @route(summary="Change a session", body=schemas.UpdateSession, answer=schemas.SessionCreated, scope="write")
    def update_session(session_id: str, body: schemas.UpdateSession) -> schemas.SessionCreated:
        return views.created(sessions.update(g.caller.owner, session_id, body.model_dump(exclude_unset=True)))

    @api.delete("/session/<session_id>")
    @route(summary="Delete a session", answer=schemas.Success, scope="write")
    def delete_session(session_id: str) -> schemas.Success:
        sessions.delete(g.caller.owner, session_id)
        return schemas.Success()

    @api.get("/session/<session_id>/diff")
    @route(summary="What the session's tools changed in files, as a unified diff", answer=schemas.Diff)
    def diff_session(session_id: str) -> schemas.Diff:
        return schemas.Diff(diff=sessions.diff(g.caller.owner, session_id))

    @api.get("/models")
    @route(summary="Models that can be used now", answer=schemas.ModelList)
    def list_models() -> schemas.ModelList:
        return views.models(sessions.models, current_app.config["MODEL_REASON"])


def _message_views(api: Blueprint, sessions: SessionService, limits: Limits) -> None:
    @api.post("/session/<session_id>/message")
    @route(
        summary="Start a turn and stream it",
        body=schemas.SendMessage,
        answer=schemas.TurnAnswer,
        streams="session",
        codes=("SESSION_BUSY",),
        scope="write",
    )
    def send_message(session_id: str, body: schemas.SendMessage) -> Response:
        wants_json = _wants_json()
        close = limits.open_stream(g.caller.owner)
        try:
            turn = sessions.send(g.caller.owner, session_id, body.content, model=body.model)
            following = _follow_turn(sessions, turn)
            if not wants_json:
                return event_stream(session_stream(following, session_id), close)
            answer = _wait(sessions, turn, following)
        except BaseException:
            close()
            raise
        close()
        return answer

    @api.get("/session/<session_id>/message")
    @route(summary="Follow a session's events", query=schemas.FollowQuery, streams="session")
    def follow_session(session_id: str, query: schemas.FollowQuery) -> Response:
        close = limits.open_stream(g.caller.owner)
        try:
            following = _follow(sessions, session_id, query)
        except BaseException:
            close()
            raise
        return event_stream(session_stream(following, session_id), close)

    @api.get("/session/<session_id>/turn/<turn_id>")
    @route(summary="One turn: status, usage, its message", answer=schemas.TurnAnswer)
    def get_turn(session_id: str, turn_id: str) -> schemas.TurnAnswer:
        return _turn_answer(sessions, sessions.turn(g.caller.owner, session_id, turn_id))

    @api.post("/session/<session_id>/abort")
    @route(summary="Stop the running turn", body=schemas.Abort, answer=schemas.Aborted, scope="write")
    def abort_turn(session_id: str, body: schemas.Abort) -> schemas.Aborted:
        return schemas.Aborted(aborted=sessions.abort(g.caller.owner, session_id, body.turn_id))

    @api.post("/session/<session_id>/permission/<permission_id>")
    @route(
        summary="Answer a permission request",
        body=schemas.AnswerPermission,
        answer=schemas.Success,
        codes=("PERMISSION_ANSWERED",),
        scope="approve",
    )
    def answer_permission(session_id: str, permission_id: str, body: schemas.AnswerPermission) -> schemas.Success:
        sessions.answer(g.caller.owner, session_id, permission_id, body.response)
        return schemas.Success()


def _wants_json() -> bool:
    """Which of the two the Accept header likes better; a tie, or no header, is the stream."""
    if not request.headers.get("Accept"):
        return False
    stream, json = (request.accept_mimetypes[kind] for kind in (_EVENT_STREAM, _JSON))
    if not stream and not json:
        raise NotAcceptable(f"Accept must admit {_EVENT_STREAM} or {_JSON}.")
    return bool(json > stream)


def _follow_turn(sessions: SessionService, turn: Turn) -> Following:
    return sessions.follow(turn.owner, turn.session_id, after=turn.first_seq - 1, beat_s=BEAT_S, turn_id=turn.id)


def _follow(sessions: SessionService, session_id: str, query: schemas.FollowQuery) -> Following:
    owner, live = g.caller.owner, query.until is None
    if query.turn is not None:
        return _follow_turn(sessions, sessions.turn(owner, session_id, query.turn))
    # It goes before the address' `after`: a browser reconnects with both, and the address has grown stale.
    seen = request.headers.get("Last-Event-ID", "")
    if seen.isascii() and seen.isdigit():
        return sessions.follow(owner, session_id, after=int(seen), beat_s=BEAT_S, live=live, resync=True)
    after = query.after if query.after is not None or live else 0
    return sessions.follow(owner, session_id, after=after, beat_s=BEAT_S, live=live)


def _wait(sessions: SessionService, turn: Turn, following: Following) -> Response:
    for _chunk in following.chunks:
        pass
    ended = sessions.turn(turn.owner, turn.session_id, turn.id)
    if ended.ended_at is None:
        raise Unavailable(
            f"The server is stopping; turn {turn.id} goes on. Ask again for it.", headers={"Retry-After": "2"}
        )
    return json_response(_turn_answer(sessions, ended).model_dump())


def _turn_answer(sessions: SessionService, turn: Turn) -> schemas.TurnAnswer:
    return views.turn(turn, sessions.message(turn))
