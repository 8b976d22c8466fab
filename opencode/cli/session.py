"""`opencode session`: looking at the sessions, deleting and exporting them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opencode.cli.connect import connected, server_option
from opencode.cli.printable import one_line, printable

if TYPE_CHECKING:
    from opencode.client import Client, Message, SessionDetail

_TITLE_CHARS = 60


@click.group()
def session() -> None:
    """List, show, delete and export sessions, of the server that runs, or of your own where none does.

    \b
    opencode session list
    opencode session show ses_01m8…
    opencode session export ses_01m8… -o talk.md
    opencode session delete ses_01m8…
    """


@session.command("list")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("-q", "--search", metavar="TEXT", help="Only those with it in their title or messages.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON array.")
@server_option
def list_sessions(limit: int, search: str | None, as_json: bool, url: str | None) -> None:
    """List sessions, newest first.

    \b
    opencode session list
    opencode session list --search "unit tests" --json
    """
    with connected(url) as client:
        found = [own for own, _ in zip(client.sessions(query=search), range(limit), strict=False)]
    if as_json:
        _write_json([_plain(own) for own in found])
        return
    if not found:
        click.echo("There are no sessions." if search is None else "No session has that.", err=True)
    for own in found:
        when = one_line((own.last_message or own.created_at)[:16].replace("T", " "), 16)
        title = one_line(own.title, _TITLE_CHARS) or "(no title)"
        click.echo(f"{one_line(own.id, 60)}  {when}  {one_line(own.status, 7):<7}  {own.message_count:>4}  {title}")


@session.command()
@click.argument("session_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON, with all that a session has.")
@server_option
def show(session_id: str, as_json: bool, url: str | None) -> None:
    """Show a session: what it is, and its messages.

    \b
    opencode session show ses_01m8…
    """
    with connected(url) as client:
        detail, messages = _whole(client, session_id)
    if as_json:
        _write_json(_document(detail, messages))
        return
    click.echo(one_line(detail.title, _TITLE_CHARS) or "(no title)")
    facts = {"session": detail.id, "created": detail.created_at, "status": detail.status}
    facts |= {"model": detail.resolved_model, "directory": detail.directory, "tools": ", ".join(detail.tools)}
    facts |= {"tokens": f"{detail.usage.input:,} in, {detail.usage.output:,} out"}
    for name, value in facts.items():
        click.echo(f"  {name:<10} {one_line(value, 4096)}")
    for message in messages:
        click.echo(f"\n{one_line(f'{message.role} · {message.timestamp} · {message.status}', 80)}\n")
        click.echo(printable(message.content).rstrip())


@session.command()
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@server_option
def delete(session_ids: tuple[str, ...], yes: bool, url: str | None) -> None:
    """Delete sessions with all that belongs to them; a running turn is stopped first.

    \b
    opencode session delete ses_01m8…
    opencode session delete --yes ses_01m8… ses_01m9…
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody is here to be asked: give --yes.")
        click.confirm(f"Delete {len(session_ids)} session(s) for good?", abort=True, err=True)
    with connected(url) as client:
        for session_id in session_ids:
            client.delete_session(session_id)
            click.echo(f"deleted {printable(session_id)}")


@session.command()
@click.argument("session_id", metavar="ID")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["markdown", "json"]),
    help="The form.  [default: by the file's name, else markdown]",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file to write to.")
@server_option
def export(session_id: str, form: str | None, output: Path | None, url: str | None) -> None:
    """Export a session with its messages and what its tools did.

    \b
    opencode session export ses_01m8… > talk.md
    opencode session export ses_01m8… -o talk.json
    """
    from opencode.cli.markdown import as_markdown  # noqa: PLC0415 - only here

    form = form or ("json" if output is not None and output.suffix == ".json" else "markdown")
    with connected(url) as client:
        detail, messages = _whole(client, session_id)
    text = (
        as_markdown(detail, messages)
        if form == "markdown"
        else f"{json.dumps(_document(detail, messages), indent=2)}\n"
    )
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise click.ClickException(f"{output} cannot be written: {exc.strerror}. Name a new file.") from None


def _whole(client: "Client", session_id: str) -> tuple["SessionDetail", list["Message"]]:
    return client.get_session(session_id, limit=1), client.messages(session_id)


def _document(detail: "SessionDetail", messages: list["Message"]) -> dict[str, Any]:
    fields: dict[str, Any] = _plain(detail)
    del fields["has_older"]
    return fields | {"messages": [_plain(message) for message in messages]}


def _plain(answer: Any) -> Any:
    import msgspec  # noqa: PLC0415 - only where JSON is asked for

    return msgspec.to_builtins(answer)


def _write_json(data: Any) -> None:
    # In ASCII: what escapes a terminal is escaped itself.
    click.echo(json.dumps(data, indent=2))
