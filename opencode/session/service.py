"""What clients can do with sessions. Everything here is by owner: what is another's does not exist."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from blinker import Signal

from opencode.bus.port import Bus
from opencode.changes import ForgetAlways, PutMessages, UpdateSession
from opencode.clock import timestamp
from opencode.errors import InvalidRequest, KeyTaken, NotFound, PermissionAnswered, SessionNotFound
from opencode.ids import new_id
from opencode.provider.port import Models
from opencode.records import Message, Page, Session, Turn
from opencode.session import diff, fork, permission
from opencode.session.beginning import awaited
from opencode.session.budget import Budget
from opencode.session.directories import Directories
from opencode.session.events import SessionUpdated
from opencode.session.following import Following
from opencode.session.keys import Key
from opencode.session.log import EventLog
from opencode.session.runner import Runner
from opencode.session.tail import Park
from opencode.session.turn_chunks import from_start
from opencode.session.turns import Turns, WhenBusy
from opencode.storage.port import Append, Store
from opencode.tool.port import Tools

_FORKED_MESSAGES = 100_000  # that a fork takes along
#: Offered where a session names no tools (API section 2).
DEFAULT_TOOLS = ("bash", "edit", "read", "write")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionService:
    """The front door of the session layer."""

    store: Store
    log: EventLog
    bus: Bus
    models: Models
    tools: Tools
    runner: Runner
    turns: Turns
    directories: Directories
    ceiling: Mapping[str, str]
    budget: Budget
    #: Sent with the owner before a session is made, by whatever way; a receiver that raises prevents it.
    session_creating: Signal = field(default_factory=Signal)
    #: Sent with the session; receivers must not raise.
    session_created: Signal = field(default_factory=Signal)
    session_deleted: Signal = field(default_factory=Signal)

    def create(
        self,
        owner: str,
        *,
        model: str | None = None,
        tools: tuple[str, ...] | None = None,
        directory: str | None = None,
        title: str | None = None,
        system: str | None = None,
        rules: Mapping[str, str] | None = None,
        key: Key | None = None,
    ) -> Session:
        """Create a session. A known key gives the session that it was used for.

        Raises:
            InvalidRequest: unknown model or tool, a directory outside the roots, a rule looser than the settings'.
            IdempotencyConflict: `key` was used before with another body.
        """
        if known := self._remembered(owner, key):
            return known
        session = Session(
            id=new_id("ses"),
            owner=owner,
            title=title or "",
            model=model,
            resolved_model=str(self.models.resolve(model)),
            tools=self._known(DEFAULT_TOOLS if tools is None else tools),
            directory=str(self.directories.resolve(directory)),
            system=system,
            permission=self._rules(rules or {}),
            created_at=timestamp(),
        )
        self.session_creating.send(self, owner=owner)
        try:
            self.store.create(session, key.remembered(owner, session.id) if key else None)
        except KeyTaken:
            return self._remembered(owner, key) or session
        self.session_created.send(self, session=session)
        return session

    def _remembered(self, owner: str, key: Key | None) -> Session | None:
        found = self.store.remembered(owner, key.scope, key.key) if key is not None else None
        if key is None or found is None:
            return None
        key.check(found)
        return self.store.get(owner, found.session_id)

    def fork(self, owner: str, session_id: str, *, message_id: str | None, key: Key | None = None) -> Session:
        """A new session with the messages up to and with `message_id` (default: all that have ended).

        Raises:
            InvalidRequest: there is no such message, or its turn has not ended.
        """
        if known := self._remembered(owner, key):
            return known
        source, messages, _older = self.store.snapshot(owner, session_id, limit=_FORKED_MESSAGES)
        forked = fork.copy(source, messages, message_id)
        event = forked.event(source.id)
        first = Append(forked.session.id, [event.body()], (PutMessages(forked.messages),), folds=True)
        self.session_creating.send(self, owner=owner)
        try:
            self.store.create(forked.session, key.remembered(owner, forked.session.id) if key else None, first)
        except KeyTaken:
            return self._remembered(owner, key) or forked.session
        self.session_created.send(self, session=forked.session)
        return self.store.get(owner, forked.session.id)

    def _known(self, tools: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in tools if name not in self.tools.names]
        if unknown:
            raise InvalidRequest(
                f"Unknown tool: {unknown[0]!r}. There are: {', '.join(self.tools.names)}.",
                details=[{"field": "tools", "message": f"unknown tool {name!r}"} for name in unknown],
            )
        return tuple(dict.fromkeys(tools))

    def _rules(self, rules: Mapping[str, str]) -> dict[str, str]:
        for tool, rule in rules.items():
            self._known((tool,))
            ceiling = self.ceiling.get(tool, "allow")
            if permission.rule(self.ceiling, rules, tool) != rule:
                raise InvalidRequest(
                    f"permission.{tool} cannot be {rule!r}: the settings allow nothing looser than {ceiling!r}.",
                    details=[{"field": f"permission.{tool}", "message": f"at the least {ceiling!r}"}],
                )
        return dict(rules)

    def page(self, owner: str, *, limit: int, cursor: str | None, query: str | None) -> Page:
        """Sessions of the owner, newest first."""
        return self.store.page(owner, limit=limit, cursor=cursor, query=query)

    def snapshot(
        self, owner: str, session_id: str, *, limit: int, before: str | None
    ) -> tuple[Session, list[Message], bool]:
        """The session with a page of its messages, in one consistent view, and whether there are older ones."""
        return self.store.snapshot(owner, session_id, limit=limit, before=before)

    def update(self, owner: str, session_id: str, values: Mapping[str, Any]) -> Session:
        """Change title, model, tools or permission; followers see `session_updated`."""
        session = self.store.get(owner, session_id)
        changed: dict[str, Any] = dict(values)
        if "tools" in changed:
            changed["tools"] = self._known(tuple(changed["tools"]))
        if "permission" in changed:
            changed["permission"] = self._rules(changed["permission"])
        if "model" in changed:
            changed["resolved_model"] = str(self.models.resolve(changed["model"]))
        if changed:
            event = SessionUpdated(session_id=session.id, changed=changed)
            forget = (ForgetAlways(session.id),) if "permission" in changed else ()
            self.log.append(Append(session.id, [event.body()], (UpdateSession(session.id, changed), *forget)))
        return self.store.get(owner, session_id)

    def delete(self, owner: str, session_id: str) -> None:
        """Stop its turn, then remove the session; its streams end."""
        session = self.store.get(owner, session_id)
        self.turns.end_all(session.id)
        self.log.let_catch_up(session.id)
        self.store.delete(session.id)
        self.log.end(session.id)
        self.runner.cancel_in(session.id)  # what began in this very moment has no log any more, but may have tools
        self.session_deleted.send(self, session=session)

    def send(
        self,
        owner: str,
        session_id: str,
        content: str,
        *,
        model: str | None = None,
        when_busy: WhenBusy = "reject",
        key: Key | None = None,
    ) -> Turn:
        """Start a turn: stored, with its user message and `turn_start`, when this returns; or queued.

        Raises:
            SessionBusy: another turn is active and `when_busy` is `reject`, or too many wait.
            RateLimitExceeded: the owner has as many running turns as the settings allow.
            IdempotencyConflict: `key` was used before with another body.
        """
        self.runner.check_open()
        session = self.store.get(owner, session_id)
        if key is not None and (known := self.turns.known(session, key)):
            return known
        self.runner.check_room(owner)
        resolved = session.resolved_model if model is None else str(self.models.resolve(model))
        return self.turns.start(session, content, resolved, when_busy=when_busy, key=key)

    def turn(self, owner: str, session_id: str, turn_id: str) -> Turn:
        """One turn of the session."""
        self.store.get(owner, session_id)
        turn = self.store.turn(session_id, turn_id)
        if turn is None:
            raise NotFound(f"Turn not found: {turn_id}")
        return turn

    def message(self, turn: Turn) -> Message:
        """The assistant message of a turn; of one that waits, an empty one."""
        found = self.store.message(turn.session_id, turn.message_id)
        if found is None and turn.first_seq:
            raise SessionNotFound(turn.session_id)
        return found or awaited(turn)

    def projects(self, owner: str) -> list[tuple[str, str]]:
        """Directories that sessions have used, each with the time of the first one."""
        return self.store.projects(owner)

    def abort(self, owner: str, session_id: str, turn_id: str | None = None) -> bool:
        """Stop the running turn; True when there was one. Its log has ended when this returns."""
        self.store.get(owner, session_id)
        return self.turns.abort(session_id, turn_id)

    def answer(self, owner: str, session_id: str, permission_id: str, response: str) -> None:
        """Answer a permission request; the first answer wins, the same one again is no fault.

        Raises:
            PermissionAnswered: another answer came first.
        """
        self.store.get(owner, session_id)
        asked = self.store.permission(session_id, permission_id)
        if asked is None:
            raise NotFound(f"Permission request not found: {permission_id}")
        if not self.store.answer(permission_id, response):
            given = self.store.permission(session_id, permission_id)
            if given is not None and given.response != response:
                raise PermissionAnswered(f"This request was answered before: {given.response}.")
        self.bus.ring(permission.topic(permission_id))

    def diff(self, owner: str, session_id: str) -> str:
        """Unified diff of what the session's tools changed in files."""
        return diff.unified(self.store.file_changes(self.store.get(owner, session_id).id))

    def follow(
        self,
        owner: str,
        session_id: str,
        *,
        after: int | None,
        beat_s: float,
        live: bool = True,
        turn_id: str | None = None,
        resync: bool = False,
        left: threading.Event | None = None,
        park: Park | None = None,
    ) -> Following:
        """Follow the session's log above `after`; None: from the running turn's start, else from the next event.

        With `resync`, an `after` beyond the log (another store's) begins at its end, and `Following.resync` says so.
        With `left` set, it ends when the log is next woken.

        Raises:
            InvalidRequest: `after` lies beyond the log.
        """
        tail = self.log.tail(session_id)
        session = self.store.get(owner, session_id)
        if after is None:
            active = self.store.active_turns(session.id)
            after = active[0].first_seq - 1 if active else tail.last_seq
        beyond = after > tail.last_seq
        if beyond and resync:
            after = tail.last_seq
        elif beyond:
            raise InvalidRequest(
                f"after={after} lies beyond the session's log, which ends at {tail.last_seq}.",
                details=[{"field": "after", "message": f"at most {tail.last_seq}"}],
            )
        how: Any = {"beat_s": beat_s, "live": live, "turn_id": turn_id, "left": left, "park": park}
        chunks = self.log.follow(session.id, tail, after, **how)
        return Following(after, chunks, beyond, tail, self.log.closing.is_set)

    def follow_turn(
        self, turn: Turn, *, beat_s: float, live: bool = True, seen: int = 0, park: Park | None = None
    ) -> Following:
        """Follow one turn from its `turn_start`, or above `seen`, to its `done`; one that is queued, when it begins."""
        end = self.log.last_seq(turn.session_id)
        if not turn.first_seq:  # asked again after the log's end was noted: it may have begun in between
            turn = self.store.turn(turn.session_id, turn.id) or turn
        if turn.first_seq:
            after = max(turn.first_seq - 1, min(seen, end))
            how: Any = {"after": after, "beat_s": beat_s, "live": live, "turn_id": turn.id, "park": park}
            return self.follow(turn.owner, turn.session_id, **how)
        # Not at `park`: what comes before its `turn_start` is not for its stream.
        following = self.follow(turn.owner, turn.session_id, after=end, beat_s=beat_s, live=live, turn_id=turn.id)
        return replace(following, chunks=from_start(following.chunks, turn.id))
