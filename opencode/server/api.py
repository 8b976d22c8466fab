"""`/api`: sessions and models (API section 2). Views translate; the session layer decides."""

from flask import Blueprint

from opencode.server import schemas, views
from opencode.server.context import idempotency_key, owner, services, sessions
from opencode.server.routes import route

api = Blueprint("api", __name__, url_prefix="/api")

_KEYED = ("IDEMPOTENCY_CONFLICT",)


@api.post("/session")
@route(
    summary="Create a session", body=schemas.CreateSession, answer=schemas.SessionCreated, codes=_KEYED, scope="write"
)
def create_session(body: schemas.CreateSession) -> schemas.SessionCreated:
    return views.created(sessions().create(owner(), **body.arguments(), key=idempotency_key()))


@api.get("/sessions")
@api.get("/session", endpoint="list_sessions_too")
@route(summary="List sessions, newest first", query=schemas.ListQuery, answer=schemas.SessionList)
def list_sessions(query: schemas.ListQuery) -> schemas.SessionList:
    return views.session_list(sessions().page(owner(), limit=query.limit, cursor=query.cursor, query=query.q))


@api.get("/session/<session_id>")
@route(summary="A session with its messages", query=schemas.PageQuery, answer=schemas.SessionDetail)
def get_session(session_id: str, query: schemas.PageQuery) -> schemas.SessionDetail:
    found = sessions().snapshot(owner(), session_id, limit=query.limit, before=query.before)
    asked = sessions().store.permissions(session_id, response=None)
    return views.detail(*found, asked, sessions().budget)


@api.patch("/session/<session_id>")
@route(summary="Change a session", body=schemas.UpdateSession, answer=schemas.SessionCreated, scope="write")
def update_session(session_id: str, body: schemas.UpdateSession) -> schemas.SessionCreated:
    return views.created(sessions().update(owner(), session_id, body.model_dump(exclude_unset=True)))


@api.delete("/session/<session_id>")
@route(summary="Delete a session", answer=schemas.Success, scope="write")
def delete_session(session_id: str) -> schemas.Success:
    sessions().delete(owner(), session_id)
    return schemas.Success()


@api.post("/session/<session_id>/fork")
@route(
    summary="A new session with the messages up to one",
    body=schemas.Fork,
    answer=schemas.SessionCreated,
    codes=_KEYED,
    scope="write",
)
def fork_session(session_id: str, body: schemas.Fork) -> schemas.SessionCreated:
    return views.created(sessions().fork(owner(), session_id, message_id=body.message_id, key=idempotency_key()))


@api.get("/session/<session_id>/diff")
@route(summary="What the session's tools changed in files, as a unified diff", answer=schemas.Diff)
def diff_session(session_id: str) -> schemas.Diff:
    return schemas.Diff(diff=sessions().diff(owner(), session_id))


@api.post("/session/<session_id>/permission/<permission_id>")
@route(
    summary="Answer a permission request",
    body=schemas.AnswerPermission,
    answer=schemas.Success,
    codes=("PERMISSION_ANSWERED",),
    scope="approve",
)
def answer_permission(session_id: str, permission_id: str, body: schemas.AnswerPermission) -> schemas.Success:
    sessions().answer(owner(), session_id, permission_id, body.response)
    return schemas.Success()


@api.get("/models")
@route(summary="Models that can be used now", answer=schemas.ModelList)
def list_models() -> schemas.ModelList:
    return views.models(services().models.usable(), services().model_reason)


@api.get("/project")
@route(summary="Projects that sessions have used", answer=schemas.ProjectList)
def list_projects() -> schemas.ProjectList:
    found = sessions().projects(owner())
    within = sessions().directories
    return schemas.ProjectList(projects=[views.project(directory, since, within) for directory, since in found])


@api.get("/project/current")
@route(summary="The project that new sessions work in", answer=schemas.Project)
def current_project() -> schemas.Project:
    within = sessions().directories
    here = str(within.default)
    return views.project(here, dict(sessions().projects(owner())).get(here), within)
