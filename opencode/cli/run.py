"""`opencode run`: one turn in the terminal."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import click

from opencode.cli.connect import connected, server_option
from opencode.cli.printable import printable

if TYPE_CHECKING:
    from opencode.cli.view import View
    from opencode.client import Client, PermissionRequest, Turn

_MAX_CHARS = 1_000_000
_FAILED, _INTERRUPTED = 1, 130
_ANSWERS: dict[str, Literal["once", "always", "reject"]] = {
    **dict.fromkeys(["y", "yes"], "once"),
    **dict.fromkeys(["a", "always"], "always"),
    **dict.fromkeys(["n", "no"], "reject"),
}


@click.command()
@click.argument("words", metavar="PROMPT", nargs=-1)
@click.option("-s", "--session", "session_id", metavar="ID", help="Go on in this session.")
@click.option("-c", "--continue", "goes_on", is_flag=True, help="Go on in the newest session.")
@click.option("-m", "--model", help="The model, as provider/model; `opencode models` lists them.")
@click.option("--tools", metavar="NAMES", help="What a new session's model may use, by comma: bash,edit,read,write.")
@click.option("--dir", "directory", metavar="DIR", help="Where a new session works.  [default: the current directory]")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line for each event.")
@server_option
@click.pass_context
def run(  # noqa: PLR0917 - click passes them by name
    context: click.Context,
    words: tuple[str, ...],
    session_id: str | None,
    goes_on: bool,
    model: str | None,
    tools: str | None,
    directory: str | None,
    as_json: bool,
    url: str | None,
) -> None:
    """Run one turn and stream it: text to the terminal as it comes, tools with the beginning of their output.

    What is piped in is added to PROMPT. Where a server runs it is used; else the turn runs in this process. Ctrl-C
    aborts the turn. In a pipe, standard output has the answer's text alone.

    \b
    opencode run "what does this project do?"
    git diff | opencode run "review this"
    opencode run --continue "now fix what you found"
    opencode run --tools read,grep "where is the port set?"
    opencode run --json "run the tests" | jq -r 'select(.event == "text").data.content'
    OPENCODE_TOKEN=s3cret opencode run --url https://box.example.com "run the tests"

    Exit status: 0 when the turn is completed, 1 when it failed, 2 for a wrong command line, 130 after Ctrl-C.
    """
    if (session_id is not None or goes_on) and (tools is not None or directory is not None):
        raise click.UsageError("--tools and --dir are of new sessions: leave them out, or --session and --continue.")
    if session_id is not None and goes_on:
        raise click.UsageError("--session and --continue name two sessions: leave one out.")
    # A directory of this machine says nothing to a server elsewhere, unless it was typed.
    place = directory if url else _resolved(directory)
    prompt = _prompt(" ".join(words))
    try:
        with connected(url, directory=None if url else Path(str(place)), works=True) as client:
            session = session_id or (_newest(client) if goes_on else None) or _new_session(client, tools, place)
            code = _run_turn(client, session, prompt, model, as_json)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    context.exit(code)


def _resolved(directory: str | None) -> str:
    path = Path(directory or ".").resolve()
    if not path.is_dir():
        raise click.UsageError(f"--dir: {path} is no directory.")
    return str(path)


def _prompt(words: str) -> str:
    """What was typed, and what is piped in, below it."""
    piped = ""
    if not sys.stdin.isatty():
        piped = sys.stdin.buffer.read(4 * _MAX_CHARS + 1).decode("utf-8", "replace")
    prompt = "\n\n".join(part for part in (words, piped) if part.strip())
    if not prompt:
        raise click.UsageError('Nothing to do: opencode run "what is to be done", or pipe it in.')
    if len(prompt) > _MAX_CHARS:
        raise click.UsageError(f"The prompt has over {_MAX_CHARS:,} characters: write it to a file, and name it.")
    return prompt


def _newest(client: "Client") -> str:
    newest = client.list_sessions(limit=1).sessions
    if not newest:
        raise click.ClickException("There is no session to go on in: leave out --continue.")
    return newest[0].id


def _new_session(client: "Client", tools: str | None, directory: str | None) -> str:
    from opencode.client import ApiError  # noqa: PLC0415 - loaded by now

    names = None if tools is None else [name.strip() for name in tools.split(",") if name.strip()]
    try:
        return client.create_session(tools=names, directory=directory).session_id
    except ApiError as exc:
        if any(detail.get("field") == "directory" for detail in exc.details):
            raise click.ClickException(
                f"The server at {client.url} does not work in {directory}: {printable(exc.message)}\n"
                "Name one of its directories by --dir, or start a server here on another port and name it by --url."
            ) from None
        raise


def _run_turn(client: "Client", session_id: str, prompt: str, model: str | None, as_json: bool) -> int:
    """Run it and show it; the command's exit status."""
    key = uuid4().hex
    view = _view(session_id, as_json)
    try:
        turn = client.turn(session_id, prompt, model=model, key=key)
    except KeyboardInterrupt:
        # It may have begun or not; by its key it has a name in either case.
        client.abort(session_id, client.start_turn(session_id, prompt, model=model, key=key).turn_id)
        raise
    with turn:
        interrupted = _watch(client, turn, view)
    if interrupted:
        return _INTERRUPTED
    return 0 if turn.done is not None and turn.done.status == "completed" else _FAILED


def _watch(client: "Client", turn: "Turn", view: "View") -> bool:
    """Show the turn to its end; True where Ctrl-C brought it."""
    interrupted = False
    while True:
        try:
            _show_all(client, turn, view)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            view.note("Stopping the turn. Ctrl-C again leaves at once.")
            turn.abort()
        else:
            return interrupted


def _show_all(client: "Client", turn: "Turn", view: "View") -> None:
    from opencode.client import PermissionRequest  # noqa: PLC0415 - loaded by now

    for event in turn:
        view.show(event)
        if isinstance(event, PermissionRequest):
            _answer(client, event, turn.session_id, view)


def _answer(client: "Client", request: "PermissionRequest", session_id: str, view: "View") -> None:
    from opencode.client import ApiError  # noqa: PLC0415 - loaded by now

    response = _asked(request)
    if response is None:
        view.note(f"Nobody is here to allow {request.tool}: it is refused. OPENCODE_PERMISSION says what needs a yes.")
    try:
        client.answer_permission(session_id, request.permission_id, response or "reject")
    except ApiError as exc:
        view.note(f"The answer does not count: {exc.message}")


def _asked(request: "PermissionRequest") -> Literal["once", "always", "reject"] | None:
    """What the person at the terminal says; None where there is none."""
    from opencode.cli.view import question  # noqa: PLC0415 - loaded by now

    if not sys.stderr.isatty():
        return None
    with suppress(OSError), Path("/dev/tty").open(encoding="utf-8", errors="replace") as terminal:
        sys.stderr.write(f"\n{question(request)}")
        while True:
            sys.stderr.write("Allow it? [y]es, [n]o, [a]lways in this session: ")
            sys.stderr.flush()
            line = terminal.readline()
            if not line:
                return None
            if (response := _ANSWERS.get(line.strip().lower())) is not None:
                return response
    return None


def _view(session_id: str, as_json: bool) -> "View":
    from rich.console import Console  # noqa: PLC0415 - not needed for `--help`

    from opencode.cli.view import JsonView, TextView  # noqa: PLC0415 - as above

    notes = Console(stderr=True, highlight=False)
    if as_json:
        return JsonView(sys.stdout, notes, session_id)
    live = sys.stdout.isatty()
    return TextView(sys.stdout, Console(highlight=False) if live else notes, session_id, live=live)
