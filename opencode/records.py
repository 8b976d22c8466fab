"""What is kept and shown: sessions, messages, turns, and the models that can be asked."""

from dataclasses import dataclass, field
from typing import Any, Literal

TurnState = Literal["queued", "running", "waiting", "completed", "aborted", "failed"]
ACTIVE_STATES: tuple[TurnState, ...] = ("queued", "running", "waiting")
#: Those of which a session has at most one turn: somebody works on it.
WORKED_ON_STATES: tuple[TurnState, ...] = ("running", "waiting")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and time spent. `input` includes the `cached` tokens; `turn_ms` is in milliseconds."""

    input: int = 0
    output: int = 0
    cached: int = 0
    turn_ms: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output

    def plus(self, other: "Usage") -> "Usage":
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.turn_ms + other.turn_ms,
        )


@dataclass(frozen=True, slots=True)
class Spending:
    """What an owner or a session has spent: tokens in and out, and the milliseconds of its turns."""

    tokens: int = 0
    turn_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`model` is the name as it was given; `resolved_model` is `provider/model`."""

    id: str
    owner: str
    title: str
    model: str | None
    resolved_model: str
    tools: tuple[str, ...]
    directory: str
    system: str | None
    permission: dict[str, str]
    created_at: str
    last_message_at: str | None = None
    message_count: int = 0
    #: The last event that the stored messages contain: follow from here on, and nothing is missed or doubled.
    folded_seq: int = 0
    usage: Usage = field(default_factory=Usage)
    status: Literal["idle", "running", "waiting"] = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`content` is the text that counts; `parts` are the steps, tools and what was interrupted, in order.

    `model`, `turn_ms` and `error_code` are those of an answer's turn, where it is looked at with its session.
    """

    id: str
    session_id: str
    turn_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: str
    status: TurnState = "completed"
    tokens: int = 0
    parts: tuple[dict[str, Any], ...] = ()
    model: str | None = None
    turn_ms: int | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a user and all that the agent did for it. `attempt` fences off writers that lost it."""

    id: str
    session_id: str
    owner: str
    state: TurnState
    attempt: int
    model: str
    content: str
    user_message_id: str
    message_id: str
    created_at: str
    first_seq: int = 0
    last_seq: int | None = None
    error_code: str | None = None
    ended_at: str | None = None
    usage: Usage = field(default_factory=Usage)
    #: How often its server died under it; stops that were asked for do not count.
    crashes: int = 0
    #: Queued to go before the others that wait.
    jumps: bool = False
    #: Seconds since the epoch: until then somebody works on it. 0: nobody has yet.
    lease_until: float = field(default=0.0, compare=False)
    #: Somebody has asked to stop it.
    stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What is to be posted to `url`. Times are seconds since the epoch."""

    id: str
    url: str
    body: bytes
    attempts: int
    created_at: float
    due_at: float


@dataclass(frozen=True, slots=True)
class Page:
    """A page of sessions, newest first, and where the next one starts."""

    sessions: list[Session]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Permission:
    """A request for permission; `response` is None while it waits."""

    id: str
    session_id: str
    turn_id: str
    call_id: str
    tool: str
    params: dict[str, Any]
    response: str | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be chosen; `missing` says what must be set before it answers."""

    id: str
    provider: str
    model: str
    configured: bool
    missing: str | None
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedKey:
    """What was answered to a request with an `Idempotency-Key`; `scope` is its method and path."""

    owner: str
    scope: str
    key: str
    body_hash: str
    session_id: str
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt line. `place` is where in the history it stands; at the history's end is what is being typed."""

    text: str = ""
    #: In code points, as all lengths of it.
    cursor: int = 0
    history: tuple[str, ...] = ()
    place: int = 0
    #: What was being typed while something of the history is shown.
    draft: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A shared screen. Its id is made with it: one of the same name that is made later has another."""

    id: str
    owner: str
    name: str
    #: The number of its newest event.
    number: int = 0
    prompt: Prompt = field(default_factory=Prompt)
    #: The active session, None where that is gone.
    session_id: str | None = None
    #: For the next session that is made here.
    model: str | None = None
    #: Seconds since the epoch.
    used_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ToShow:
    """An event for a screen, without its number; with `shows`, a session is the active one from then on.

    It is shown from behind that number of its log.
    """

    body: bytes
    shows: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class ScreenEvent:
    """One of a screen's own events: what happens in its session is in that one's log.

    Before it comes what happened in `session_id` up to `seq`, after it what comes in `next_session_id` above
    `next_seq`.
    """

    number: int
    body: bytes
    session_id: str | None
    seq: int
    next_session_id: str | None
    next_seq: int


@dataclass(frozen=True, slots=True)
class ScreenView:
    """A screen, how far its session's log goes, and what waits for an answer there: one consistent view."""

    screen: Screen
    seq: int
    permissions: tuple[Permission, ...]


@dataclass(frozen=True, slots=True)
class ScreenChange:
    """What a change has made of a screen, and the events that show it."""

    before: Screen
    after: Screen
    events: tuple[ScreenEvent, ...]
