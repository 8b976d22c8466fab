"""`opencode attach`: a terminal interface to a running server."""

import ipaddress
import os
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

import click

_INSTALL = "pip install 'opencode-server[tui]'"


@click.command()
@click.argument("url", metavar="[URL]", default="http://localhost:3000")
@click.option("--auth", is_flag=True, help="Ask for the token, even where OPENCODE_TOKEN holds one.")
@click.option("--tui", "name", metavar="NAME", default="default", help="Which shared screen.  [default: default]")
@click.option("--session", "session_id", metavar="ID", help="Select this session at the start.")
def attach(url: str, *, auth: bool, name: str, session_id: str | None) -> None:
    """Attach this terminal to the server at URL (default: http://localhost:3000).

    What you see is a shared screen: whoever attaches to the same NAME sees the same prompt and session. Where the
    server asks for a token, it is read from OPENCODE_TOKEN, or asked for; it is never given on the command line, where
    others could see it.

    \b
    opencode attach
    opencode attach https://agent.example.com --tui pairing
    OPENCODE_TOKEN=s3cret opencode attach http://build-host:8080
    """
    if find_spec("textual") is None:
        raise click.ClickException(f"opencode attach needs the package textual. Install it with: {_INSTALL}")
    import asyncio  # noqa: PLC0415 - a tenth of what the start of every other command costs

    from opencode.tui.connection import checked_url  # noqa: PLC0415 - where textual is missing, httpx2 may be too

    try:
        url = checked_url(url)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    token = _ask_for_token() if auth else _checked_token(os.environ.get("OPENCODE_TOKEN", ""))
    state = asyncio.run(_look(url, token, name))
    if state == "token":
        token = _ask_for_token()
        if asyncio.run(_look(url, token, name)) == "token":
            raise click.ClickException("The server does not know this token.")
    if token:
        _warn_of_clear_text(url)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("opencode attach needs a terminal. For scripts there is the API: see docs/api.md")
    _run(url, token, name, session_id)


def _checked_token(given: str) -> str | None:
    token = given.strip()
    if not (token.isascii() and token.isprintable()):
        raise click.ClickException("A token consists of printable ASCII characters; this one does not.")
    return token or None


def _ask_for_token() -> str | None:
    if not sys.stdin.isatty():
        raise click.ClickException("The server asks for a token. Set OPENCODE_TOKEN, or attach from a terminal.")
    return _checked_token(click.prompt("Token", hide_input=True))


async def _look(url: str, token: str | None, name: str) -> str:
    """Whether the server can be attached to: `ok`, or `token` where none was given and one is needed.

    Raises:
        ClickException: it cannot; the message says what to do.
    """
    from opencode.tui.connection import Connection, Refused, Unreachable  # noqa: PLC0415 - as above

    async with Connection(url, token) as connection:
        try:
            await connection.call("GET", "/tui/state", query={"tui": name})
        except Refused as exc:
            if exc.code == "UNAUTHORIZED" and token is None:
                return "token"
            if exc.code == "UNAUTHORIZED":
                raise click.ClickException(
                    "The server does not know this token. Set OPENCODE_TOKEN to a right one, or be asked with --auth."
                ) from None
            raise click.ClickException(f"The server refuses: {exc.message}") from None
        except Unreachable as exc:
            raise click.ClickException(
                f"{exc} Is the address right? A server of your own is started with: opencode serve"
            ) from None
    return "ok"


def _warn_of_clear_text(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if parts.scheme == "http" and not here:
        click.echo(
            f"Warning: the token goes to {host} in clear text; use https where others share the network.", err=True
        )


def _run(url: str, token: str | None, name: str, session_id: str | None) -> None:
    from opencode.tui.app import AttachApp  # noqa: PLC0415 - textual is an extra
    from opencode.tui.connection import Connection  # noqa: PLC0415 - as above

    async def show() -> AttachApp:
        async with Connection(url, token) as connection:
            app = AttachApp(connection, name=name, session_id=session_id)
            await app.run_async()
            return app

    import asyncio  # noqa: PLC0415 - as above

    app = asyncio.run(show())
    if app.return_code:
        raise click.ClickException(str(app.return_value or "The terminal interface ended with a fault."))
