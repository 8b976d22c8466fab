"""From what the session layer gives to what the API promises."""

from dataclasses import replace
from pathlib import Path

from opencode.records import Message, ModelInfo, Page, Permission, Session, Spending, Turn, Usage
from opencode.server import schemas
from opencode.session import vcs
from opencode.session.budget import Budget, Ceiling
from opencode.session.directories import Directories, project_id


def created(session: Session) -> schemas.SessionCreated:
    return schemas.SessionCreated(
        session_id=session.id,
        created_at=session.created_at,
        model=session.model,
        resolved_model=session.resolved_model,
        tools=list(session.tools),
        directory=session.directory,
        title=session.title,
    )


def session_list(page: Page) -> schemas.SessionList:
    summaries = [
        schemas.SessionSummary(
            id=session.id,
            created_at=session.created_at,
            last_message=session.last_message_at,
            model=session.model,
            message_count=session.message_count,
            title=session.title,
            status=session.status,
        )
        for session in page.sessions
    ]
    return schemas.SessionList(sessions=summaries, next_cursor=page.next_cursor)


def detail(
    session: Session, messages: list[Message], has_older: bool, asked: list[Permission], budget: Budget
) -> schemas.SessionDetail:
    by_session, by_owner = budget.spent(session)
    return schemas.SessionDetail(
        id=session.id,
        created_at=session.created_at,
        last_message=session.last_message_at,
        model=session.model,
        resolved_model=session.resolved_model,
        tools=list(session.tools),
        directory=session.directory,
        title=session.title,
        system=session.system,
        permission=session.permission,  # type: ignore[arg-type] # rules were checked when they came in
        message_count=session.message_count,
        status=session.status,
        usage=_usage(session.usage),
        budget=schemas.Budgets(session=_budget(by_session, budget.session), owner=_budget(by_owner, budget.owner)),
        seq=session.folded_seq,
        messages=[message(own) for own in messages],
        permissions=[
            schemas.AskedPermission(
                permission_id=own.id, turn_id=own.turn_id, call_id=own.call_id, tool=own.tool, params=own.params
            )
            for own in asked
        ],
        has_older=has_older,
    )


def _usage(spent: Usage) -> schemas.Usage:
    return schemas.Usage(input=spent.input, output=spent.output, cached=spent.cached, turn_ms=spent.turn_ms)


def _budget(spent: Spending, ceiling: Ceiling) -> schemas.Budget:
    return schemas.Budget(
        tokens=spent.tokens, max_tokens=ceiling.tokens, seconds=spent.turn_ms / 1000, max_seconds=ceiling.seconds
    )


def message(stored: Message) -> schemas.Message:
    return schemas.Message(
        id=stored.id,
        role=stored.role,
        content=stored.content,
        timestamp=stored.created_at,
        turn_id=stored.turn_id,
        status=stored.status,
        tokens=stored.tokens,
        parts=list(stored.parts),
        model=stored.model,
        duration=stored.turn_ms,
        error=stored.error_code,
    )


def turn(stored: Turn, answer: Message) -> schemas.TurnAnswer:
    ended_ms = stored.usage.turn_ms if stored.ended_at else None
    answer = replace(answer, model=stored.model, turn_ms=ended_ms, error_code=stored.error_code)
    return schemas.TurnAnswer(
        turn_id=stored.id,
        status=stored.state,
        message=message(answer),
        tokens=stored.usage.tokens,
        duration=stored.usage.turn_ms,
        usage=_usage(stored.usage),
        created_at=stored.created_at,
        ended_at=stored.ended_at,
        error=stored.error_code,
    )


def models(known: list[ModelInfo], reason: str) -> schemas.ModelList:
    listed = [
        schemas.Model(
            id=own.id, provider=own.provider, has_key=own.configured, default=own.default, missing=own.missing
        )
        for own in known
    ]
    return schemas.ModelList(models=listed, default=next(own.id for own in known if own.default), reason=reason)


def project(directory: str, created_at: str | None, directories: Directories) -> schemas.Project:
    repository = vcs.find(Path(directory), directories)
    return schemas.Project(
        id=project_id(directory),
        directory=directory,
        vcs=None if repository is None else schemas.Vcs(type=repository.type, branch=repository.branch),
        created_at=created_at,
    )
