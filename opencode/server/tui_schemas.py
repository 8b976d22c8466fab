"""Bodies, queries and answers of the shared screens (API section 5)."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from opencode.server.schemas import Answer, Name, Query, Request
from opencode.session.terminal_input import CommandName


class TuiInput(Request):
    type: Literal["keypress", "text", "command"]
    key: Annotated[str, StringConstraints(min_length=1, max_length=32)] | None = Field(
        None, description="with `keypress`: a printable character, or a key's name such as `enter` or `ctrl+a`"
    )
    text: Annotated[str, StringConstraints(max_length=100_000)] | None = Field(None, description="with `text`")
    command: CommandName | None = Field(None, description="with `command`; the fields below are its arguments")
    session_id: Name | None = Field(None, description="of `session.select` and `session.delete`")
    permission_id: Name | None = Field(None, description="of `permission.reply`; without it the one that waits")
    response: Literal["once", "always", "reject"] | None = Field(None, description="of `permission.reply`")
    model: Name | None = Field(None, description="of `model.select` and `session.new`")


class ScreenQuery(Query):
    tui: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "default"


class ScreenFollowQuery(ScreenQuery):
    after: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="the id of the last event already seen; `Last-Event-ID` goes before it"
    )


class PendingPermission(Answer):
    permission_id: str
    turn_id: str
    tool: str
    params: dict[str, Any]
    call_id: str


class ScreenState(Answer):
    prompt: str
    cursor: int = Field(description="in code points")
    session_id: str | None = Field(description="the active session")
    model: str | None = Field(description="what the next session made here gets")
    permissions: list[PendingPermission] = Field(description="what the active session waits for, the oldest first")
    last_event_id: str = Field(description="follow with ?after=<last_event_id>, and nothing is missed or doubled")
