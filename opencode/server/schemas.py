"""Bodies, queries and answers. Requests are checked against these, and the API document is made from them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from opencode.records import TurnState

_TEXT_CHARS = 1_000_000
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Rule = Literal["allow", "ask", "deny"]
Content = Annotated[str, StringConstraints(min_length=1, max_length=_TEXT_CHARS)]


class Request(BaseModel):
    """Unknown fields are refused by name; types are not bent into shape."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Answer(BaseModel):
    """As all models here, it is made ready when it is first used: that is most of what they cost a start."""

    model_config = ConfigDict(defer_build=True)


class CreateSession(Request):
    model: Name | None = Field(None, description="`provider/model` or an alias; without it the default model")
    tools: Annotated[list[Name], Field(max_length=50)] | None = Field(
        None, description="what the model is offered; without it bash, edit, read, write"
    )
    directory: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        None, description="where the session works; within the roots"
    )
    title: Annotated[str, StringConstraints(max_length=200)] | None = None
    system: Annotated[str, StringConstraints(max_length=100_000)] | None = Field(
        None, description="further instructions for the model"
    )
    permission: dict[Name, Rule] | None = Field(None, description="by tool; only stricter than the settings")

    def arguments(self) -> dict[str, Any]:
        """What `SessionService.create` takes of it."""
        return {
            "model": self.model,
            "tools": None if self.tools is None else tuple(self.tools),
            "directory": self.directory,
            "title": self.title,
            "system": self.system,
            "rules": self.permission,
        }


class UpdateSession(Request):
    """Only the fields that are given change; a `model` of null goes back to the default."""

    model: Name | None = None
    tools: Annotated[list[Name], Field(max_length=50)] = []
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    permission: dict[Name, Rule] = {}


class SendMessage(Request):
    content: Content
    when_busy: Literal["reject", "queue", "interrupt"] = Field(
        "reject", description="what to do while another turn is active"
    )
    model: Name | None = Field(None, description="for this turn only")


class Fork(Request):
    message_id: Name | None = Field(None, description="the last message to take along; without it all that have ended")


class Abort(Request):
    turn_id: Name | None = Field(None, description="only this turn; without it the running one")


class AnswerPermission(Request):
    response: Literal["once", "always", "reject"]


class Render(Request):
    texts: Annotated[
        list[Annotated[str, StringConstraints(max_length=100_000)]], Field(min_length=1, max_length=100)
    ] = Field(description="Markdown")


class Query(BaseModel):
    """Query parameters: texts, so numbers are read from them."""

    model_config = ConfigDict(extra="ignore", defer_build=True)


class ListQuery(Query):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, StringConstraints(max_length=100)] | None = None
    q: Annotated[str, StringConstraints(max_length=200)] | None = Field(None, description="in titles and messages")


class PageQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Annotated[str, StringConstraints(max_length=100)] | None = Field(None, description="a message's id")


class FollowQuery(Query):
    after: Annotated[int, Field(ge=0)] | None = Field(None, description="the last event already seen")
    until: Literal["end"] | None = Field(None, description="replay what is stored, then end")
    turn: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="replay one turn, then end"
    )


class SessionCreated(Answer):
    session_id: str
    created_at: str
    model: str | None = Field(description="as it was given")
    resolved_model: str
    tools: list[str]
    directory: str
    title: str


class SessionSummary(Answer):
    id: str
    created_at: str
    last_message: str | None = Field(description="the time of the last message")
    model: str | None
    message_count: int
    title: str
    status: Literal["idle", "running", "waiting"]


class SessionList(Answer):
    sessions: list[SessionSummary]
    next_cursor: str | None = None


class Usage(Answer):
    input: int
    output: int
    cached: int
    turn_ms: int


class Message(Answer):
    id: str
    role: Literal["user", "assistant"]
    content: str
    timestamp: str
    turn_id: str
    status: TurnState
    tokens: int
    parts: list[dict[str, Any]]
    model: str | None = Field(None, description="that was to answer")
    duration: int | None = Field(None, description="of the answer's turn, in milliseconds; null while it goes on")
    error: str | None = Field(None, description="the code of what ended the turn early")


class AskedPermission(Answer):
    permission_id: str
    turn_id: str
    call_id: str
    tool: str
    params: dict[str, Any]


class Budget(Answer):
    """What is spent, up to the last step of a running turn, and the ceiling; null: none is set."""

    tokens: int
    max_tokens: int | None
    seconds: float
    max_seconds: float | None


class Budgets(Answer):
    session: Budget
    owner: Budget = Field(description="all sessions of the owner, deleted ones included")


class SessionDetail(Answer):
    id: str
    created_at: str
    last_message: str | None
    model: str | None
    resolved_model: str
    tools: list[str]
    directory: str
    title: str
    system: str | None
    permission: dict[str, Rule]
    message_count: int
    status: Literal["idle", "running", "waiting"]
    usage: Usage
    budget: Budgets
    seq: int = Field(description="follow with ?after=<seq>, and nothing is missed or doubled")
    messages: list[Message]
    permissions: list[AskedPermission] = Field(description="what the running turn waits for, as in permission_request")
    has_older: bool = Field(description="page back with ?before=<id of the first message>")


class TurnAnswer(Answer):
    turn_id: str
    status: TurnState
    message: Message
    tokens: int
    duration: int = Field(description="milliseconds")
    usage: Usage
    created_at: str
    ended_at: str | None
    error: str | None = Field(description="the code of what ended the turn early")


class TurnAccepted(Answer):
    turn_id: str
    seq: int = Field(description="follow with ?after=<seq>")


class Success(Answer):
    success: Literal[True] = True


class Aborted(Success):
    aborted: bool


class Rendered(Answer):
    html: list[str | None] = Field(description="for each text; null where it took too long: show the text as it is")


class Diff(Answer):
    diff: str


class Model(Answer):
    id: str
    provider: str
    has_key: bool
    default: bool
    missing: str | None = Field(description="what must be set before it answers")


class ModelList(Answer):
    models: list[Model]
    default: str
    reason: str = Field(description="why that one is the default")


class Vcs(Answer):
    type: str
    branch: str | None


class Project(Answer):
    id: str
    directory: str
    vcs: Vcs | None
    created_at: str | None


class ProjectList(Answer):
    projects: list[Project]


class Health(Answer):
    status: Literal["ok"]
    uptime: int = Field(description="whole seconds")
    version: str


class ErrorBody(Answer):
    code: str
    message: str
    status: int
    details: list[dict[str, Any]] | None = None
    request_id: str | None = None


class ErrorEnvelope(Answer):
    error: ErrorBody


class Readiness(Answer):
    status: Literal["ready", "unavailable"]
    checks: dict[str, str]
    model: str
    #: Of the default model's provider: `ok`, or what it lacks. It fails nothing.
    provider: str
    error: ErrorBody | None = None
