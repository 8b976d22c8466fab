"""What the server answers, as immutable objects; fields that a newer server adds are passed over (API section 2)."""

from typing import Any

import msgspec


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Keyword-only, so that a new field breaks nobody."""


class Usage(_Answer, frozen=True, kw_only=True):
    """Tokens and time spent. `input` counts the `cached` ones too; `turn_ms` is in milliseconds."""

    input: int
    output: int
    cached: int
    turn_ms: int


class Budget(_Answer, frozen=True, kw_only=True):
    """What is spent, up to the last step of a running turn, and the ceiling; None where none is set."""

    tokens: int
    max_tokens: int | None
    seconds: float
    max_seconds: float | None


class Budgets(_Answer, frozen=True, kw_only=True):
    """Of the session, and of its owner in all."""

    session: Budget
    owner: Budget


class Session(_Answer, frozen=True, kw_only=True):
    """A session as `create_session`, `update_session` and `fork_session` answer; `model` is the name as given."""

    session_id: str
    created_at: str
    model: str | None
    resolved_model: str
    tools: list[str]
    directory: str
    title: str


class SessionSummary(_Answer, frozen=True, kw_only=True):
    """A session in a list; `last_message` is a time, `status` is `idle`, `running` or `waiting`."""

    id: str
    created_at: str
    last_message: str | None
    model: str | None
    message_count: int
    title: str
    status: str


class SessionPage(_Answer, frozen=True, kw_only=True):
    """Sessions, newest first; `next_cursor` asks for those after them."""

    sessions: list[SessionSummary]
    next_cursor: str | None = None


class Message(_Answer, frozen=True, kw_only=True):
    """A message; `parts` are its text, reasoning and tools in order.

    Of an answer there are also its turn's `model`, `duration` in milliseconds, and `error`, the code of what ended it.
    """

    id: str
    role: str
    content: str
    timestamp: str
    turn_id: str
    status: str
    tokens: int
    parts: list[dict[str, Any]]
    model: str | None = None
    duration: int | None = None
    error: str | None = None


class AskedPermission(_Answer, frozen=True, kw_only=True):
    """What a running turn waits for."""

    permission_id: str
    turn_id: str
    call_id: str
    tool: str
    params: dict[str, Any]


class SessionDetail(_Answer, frozen=True, kw_only=True):
    """A session with its newest messages, oldest first; `seq` is the last event that they contain.

    `permissions` are the requests that its running turn waits for, with the fields of `permission_request`.
    """

    id: str
    created_at: str
    last_message: str | None
    model: str | None
    resolved_model: str
    tools: list[str]
    directory: str
    title: str
    system: str | None
    permission: dict[str, str]
    message_count: int
    status: str
    usage: Usage
    budget: Budgets | None = None
    seq: int
    messages: list[Message]
    permissions: list[AskedPermission] = []
    has_older: bool


class TurnAnswer(_Answer, frozen=True, kw_only=True):
    """A turn: `duration` is in milliseconds, `error` the code of what ended it early."""

    turn_id: str
    status: str
    message: Message
    tokens: int
    duration: int
    usage: Usage
    created_at: str
    ended_at: str | None
    error: str | None


class TurnAccepted(_Answer, frozen=True, kw_only=True):
    """A turn that has begun or waits; follow its session from `seq`."""

    turn_id: str
    seq: int


class Aborted(_Answer, frozen=True, kw_only=True):
    """Whether there was something to stop."""

    aborted: bool


class Diff(_Answer, frozen=True, kw_only=True):
    """A unified diff."""

    diff: str


class Model(_Answer, frozen=True, kw_only=True):
    """A model; `missing` says what must be set before it answers."""

    id: str
    provider: str
    has_key: bool
    default: bool
    missing: str | None


class ModelList(_Answer, frozen=True, kw_only=True):
    """The models, which one is the default, and why."""

    models: list[Model]
    default: str
    reason: str


class Health(_Answer, frozen=True, kw_only=True):
    """The server lives; `uptime` is in whole seconds."""

    status: str
    uptime: int
    version: str
