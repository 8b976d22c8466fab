"""Who may run what: settings are the ceiling, the session may only be stricter (API section 2)."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from opencode.bus.port import Bus
from opencode.cancel import Cancel
from opencode.changes import AskPermission, SetTurnState
from opencode.ids import made_at, new_id
from opencode.records import Permission, Session, Turn
from opencode.session.events import PermissionReply, PermissionRequest
from opencode.session.pen import Pen
from opencode.storage.port import PermissionStore, SessionStore

Rule = Literal["allow", "ask", "deny"]
Response = Literal["once", "always", "reject"]
_STRICTNESS: dict[str, int] = {"allow": 0, "ask": 1, "deny": 2}
#: The answer may be given through another process, whose ring can get lost.
_POLL_S = 5.0

_REFUSED = "The user did not allow this call. Do not try it again; ask what they would like instead."


def rule(ceiling: Mapping[str, str], session: Mapping[str, str], tool: str) -> str:
    """The stricter of the settings' and the session's rule; where neither says anything, what is offered is allowed."""
    return max(ceiling.get(tool, "allow"), session.get(tool, "allow"), key=_STRICTNESS.__getitem__)


def covers(given: Permission, tool: str, params: Mapping[str, Any]) -> bool:
    """Whether an earlier `always` covers a call: for `bash` this very command, for other tools the tool itself."""
    return given.tool == tool and (tool != "bash" or given.params.get("command") == params.get("command"))


def topic(permission_id: str) -> str:
    """Where an answer rings."""
    return f"permission:{permission_id}"


class Grants(PermissionStore, SessionStore, Protocol):
    """What a gate asks of the store."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides on the calls of turns, and waits for people where it must."""

    store: Grants
    bus: Bus
    ceiling: Mapping[str, str]
    timeout_s: float
    #: Entered while a person is waited for.
    pause: Callable[[], AbstractContextManager[None]]

    def refusal(self, session: Session, turn: Turn, pen: Pen, cancel: Cancel, call: dict[str, Any]) -> str | None:
        """None when the call may run, else what the model is told. Waits while a person is asked.

        `call` is the part of the message; the answer is bound to exactly its `tool` and `params`, and kept in it.
        """
        # Looked up anew for each call: a rule that was made stricter holds from then on, in the midst of a turn too.
        rules = self.store.get(session.owner, session.id).permission
        decided = rule(self.ceiling, rules, call["tool"])
        if decided == "deny":
            return (
                f"The tool {call['tool']} is denied here by the user's settings. Do without it, or say what you need."
            )
        if "permission" in call:  # answered in an earlier attempt
            return _REFUSED if call["permission"] == "reject" else None
        if decided == "allow":
            return None
        given = self.store.permissions(session.id, response="always")
        if any(covers(earlier, call["tool"], call["params"]) for earlier in given):
            return None
        return _REFUSED if self._ask(session, turn, pen, cancel, call) == "reject" else None

    def _ask(self, session: Session, turn: Turn, pen: Pen, cancel: Cancel, call: dict[str, Any]) -> Response:
        earlier = self.store.asked(session.id, call["call_id"])
        permission_id = new_id("per") if earlier is None else earlier.id
        ear = self.bus.subscribe(topic(permission_id))
        stop_waking = cancel.on_cancel(lambda: self.bus.ring(topic(permission_id)))
        try:
            if earlier is None:
                self._request(permission_id, session, turn, pen, call)
            elif earlier.response is None:
                pen.write(changes=(SetTurnState(turn.id, "waiting"),))
            with self.pause():
                response = self._wait(session.id, permission_id, cancel, ear.wait)
        finally:
            stop_waking()
            ear.close()
        call["permission"] = response
        pen.draft.touch(call)
        pen.write(
            PermissionReply(turn_id=turn.id, permission_id=permission_id, response=response),
            changes=(SetTurnState(turn.id, "running"),),
            fold=True,
        )
        return response

    @staticmethod
    def _request(permission_id: str, session: Session, turn: Turn, pen: Pen, call: dict[str, Any]) -> None:
        tool, params, call_id = call["tool"], call["params"], call["call_id"]
        event = PermissionRequest(
            turn_id=turn.id, permission_id=permission_id, tool=tool, params=params, call_id=call_id
        )
        ask = AskPermission(permission_id, session.id, turn.id, call_id, tool, params)
        pen.write(event, changes=(ask, SetTurnState(turn.id, "waiting")), fold=True)

    def _wait(self, session_id: str, permission_id: str, cancel: Cancel, wait: Callable[[float], bool]) -> Response:
        # Counted from the request on, also where its turn has gone through a stop or a crash since.
        deadline = time.monotonic() + self.timeout_s - max(0.0, time.time() - made_at(permission_id))
        while True:
            cancel.check()
            found = self.store.permission(session_id, permission_id)
            if found is not None and found.response is not None:
                return cast("Response", found.response)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                # Somebody may answer in this very moment: the first answer stands.
                self.store.answer(permission_id, "reject")
                continue
            wait(min(left_s, _POLL_S))
