"""What is said over a WebSocket: each message a command to the session service (API section 6)."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from opencode.errors import InternalError, InvalidRequest, NotFound, Unauthorized
from opencode.server import views, ws_messages
from opencode.server.access import Caller, check_scope
from opencode.server.errors import envelope, translated
from opencode.server.limits import Limits
from opencode.server.ws_connection import Code, Connection, Gone
from opencode.server.ws_following import Follows, Places
from opencode.session.keys import Key
from opencode.session.service import SessionService

log = logging.getLogger(__name__)

#: What a command needs beyond `read`, which the connection itself needs.
SCOPES: dict[type[ws_messages.Command], str] = {
    ws_messages.Create: "write",
    ws_messages.Say: "write",
    ws_messages.Abort: "write",
    ws_messages.Answer: "approve",
}
#: What followers get, when nothing is read any more, to send what is stored.
_LAST_S = 2.0
_STOPPING = "The server is stopping: connect again, and follow from your last seq."


@dataclass(frozen=True, slots=True)
class Party:
    """Who is at the other end, as the guard let them in; `keys` are whom their messages count for.

    `ended` says whether a sign-in was ended since.
    """

    caller: Caller
    keys: list[str]
    request_id: str
    ended: Callable[[str], bool]


class Talk:
    """One connection's conversation. Commands are carried out one after the other, in the order in which they came."""

    def __init__(
        self, connection: Connection, party: Party, sessions: SessionService, limits: Limits, places: Places
    ) -> None:
        self._connection = connection
        self._party = party
        self._sessions = sessions
        self._limits = limits
        self._places = places
        self._follows = Follows(connection, sessions, party.caller.owner, places)

    def run(self, head: bytes) -> None:
        """Upgrade, and serve the connection until it is over; `head` is the answer to the request."""
        try:
            self._connection.begin(head)
            for text in self._connection.messages():
                self._hear(text)
            if self._sessions.log.closing.is_set():
                self.stop(_LAST_S)  # a server that stops may have ended our reading before we said so
        except Gone:
            log.debug("websocket: the peer of request %s is gone", self._party.request_id)
        finally:
            self._connection.cut()
            self._follows.end_all()
            self._places.close()

    def stop(self, timeout_s: float) -> None:
        """The server stops: let what is stored be sent, then say so."""
        self._follows.join(timeout_s)
        self._connection.close(Code.RESTART, _STOPPING)

    def cut(self) -> None:
        self._connection.cut()

    def _hear(self, text: str) -> None:
        found: dict[str, Any] = {}
        try:
            found = self._decoded(text)
            self._check_sign_in()
            self._carry_out(self._admitted(found))
        except Gone:
            return  # there will be no further message
        except Unauthorized as exc:
            self._refuse(exc, found)
            self._connection.close(Code.POLICY, exc.message)
        except Exception as exc:  # a boundary: whatever fails is told to the client, and the connection goes on
            self._refuse(exc, found)

    def _refuse(self, exc: Exception, found: dict[str, Any]) -> None:
        with suppress(Gone):
            error = translated(exc)
            if isinstance(error, InternalError):
                log.error("websocket: the failure before was under request %s", self._party.request_id)
            shown_id = self._party.request_id if isinstance(error, InternalError) else None
            self._say({"type": "request_error", **envelope(error, shown_id), **ws_messages.own_id(found)})

    def _decoded(self, text: str) -> dict[str, Any]:
        try:
            return ws_messages.decode(text)
        except InvalidRequest:
            self._limits.count_message(self._party.keys)
            raise

    def _check_sign_in(self) -> None:
        """A connection outlives its request, and must not outlive the cookie that let it in.

        Raises:
            Unauthorized: it was ended.
        """
        if self._party.ended(self._party.caller.sign_in):
            raise Unauthorized("The sign-in is over: sign in again.")

    def _admitted(self, found: dict[str, Any]) -> ws_messages.Command:
        """The command, checked as a request is: scope, limits, fields."""
        try:
            command = ws_messages.parse(found)
        except InvalidRequest:
            self._limits.count_message(self._party.keys)
            raise
        scope = SCOPES.get(type(command))
        if scope is not None:
            check_scope(self._party.caller, scope)
        reconnects = isinstance(command, ws_messages.Follow) and command.after is not None
        if reconnects or isinstance(command, ws_messages.Ping | ws_messages.Unfollow):
            self._connection.count_free()
        else:
            self._limits.count_message(self._party.keys)
        return command

    def _carry_out(self, command: ws_messages.Command) -> None:
        owner = self._party.caller.owner
        match command:
            case ws_messages.Ping():
                self._say({"type": "pong", **_id(command)})
            case ws_messages.Create():
                self._create(command)
            case ws_messages.Say():
                self._start_turn(command)
            case ws_messages.Follow():
                # Followed already and no place named: it goes on, so that nothing comes twice.
                if command.after is not None or command.session_id not in self._follows:
                    self._follows.begin(command.session_id, command.after)
            case ws_messages.Unfollow():
                if not self._follows.end(command.session_id):
                    raise NotFound(f"This connection does not follow {command.session_id}.")
            case ws_messages.Abort():
                self._sessions.abort(owner, command.session_id, command.turn_id)
            case ws_messages.Answer():
                self._sessions.answer(owner, command.session_id, command.permission_id, command.response)

    def _create(self, command: ws_messages.Create) -> None:
        with self._limits.on_behalf_of(self._party.keys):
            session = self._sessions.create(self._party.caller.owner, **command.arguments())
        self._say({"type": "session_created", **views.created(session).model_dump(), **_id(command)})

    def _start_turn(self, command: ws_messages.Say) -> None:
        owner, session_id = self._party.caller.owner, command.session_id
        follows = session_id in self._follows
        # Where to begin if the turn has to wait; taken before it is stored, so that its first event cannot come before.
        begin = 0 if follows else self._sessions.follow(owner, session_id, after=None, beat_s=0.0).after
        turn = self._sessions.send(
            owner, session_id, command.content, model=command.model, when_busy=command.when_busy, key=_key(command)
        )
        if not follows:
            self._follows.begin(session_id, turn.first_seq - 1 if turn.first_seq else begin)

    def _say(self, message: dict[str, Any]) -> None:
        self._connection.send([ws_messages.encode(message)])


def _id(command: ws_messages.Command) -> dict[str, Any]:
    return {} if command.id is None else {"id": command.id}


def _key(command: ws_messages.Say) -> Key | None:
    """The message's key, bound to the session and to what it asks for."""
    if command.idempotency_key is None:
        return None
    asked = orjson.dumps([command.content, command.when_busy, command.model])
    return Key(f"WS /ws message {command.session_id}", command.idempotency_key, sha256(asked).hexdigest())
