"""Which server a command speaks to: the one that is named, the one that runs here, or one of its own."""

import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opencode.cli.printable import printable
from opencode.errors import SettingsError, StoreError
from opencode.settings import Settings, environment, load

if TYPE_CHECKING:
    from opencode.client import Client

_PROBE_S = 5.0
_STOP_S = 1.0
_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared only
_UNAUTHORIZED = 401
_IN_USE = "is in use by process"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def server_option(command: _Command) -> _Command:
    """`--url`, the server to speak to."""
    return click.option(
        "--url",
        "--server",
        metavar="URL",
        help="A running server; its token, where it asks for one, is read from OPENCODE_TOKEN."
        "  [default: the one at OPENCODE_HOST and PORT, localhost:3000; where none runs, none is needed]",
    )(command)


@contextmanager
def connected(url: str | None, *, directory: Path | None = None, works: bool = False) -> "Iterator[Client]":
    """A client of that server, of the one that runs here, or of the store itself, where none runs.

    With `works`, a server is started in this process where none runs, in `directory`: turns can be run.
    """
    # The HTTP library; `--help` and others need not wait for it.
    from opencode.client import ApiError, ClientError  # noqa: PLC0415 - see above

    try:
        settings, _warnings = load(environment(), directory=directory)
        with _client(settings, url, directory, works) as client:
            yield client
    except ApiError as exc:
        hint = "\nSet OPENCODE_TOKEN to a token of that server." if exc.status == _UNAUTHORIZED else ""
        raise click.ClickException(printable(f"{exc}{hint}")) from None
    except (SettingsError, ClientError) as exc:
        raise click.ClickException(printable(str(exc))) from None
    except StoreError as exc:
        raise click.ClickException(_explained(str(exc))) from None


def _client(
    settings: Settings, url: str | None, directory: Path | None, works: bool
) -> "AbstractContextManager[Client]":
    from opencode.client import Client  # noqa: PLC0415 - as above

    found = url or _running(settings)
    if found:
        try:
            return Client(found, settings.token)
        except ValueError as exc:
            raise click.UsageError(f"--url: {exc}") from None
    return _own_server(settings, directory) if works else _store(settings)


def _running(settings: Settings) -> str | None:
    """The address of the server that runs here."""
    from opencode.client import Client, ClientError  # noqa: PLC0415 - as above

    host = "localhost" if settings.host in _EVERYWHERE else settings.host
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    try:
        with Client(url, patience_s=0.0, silence_s=_PROBE_S) as client:
            return url if client.health().status == "ok" else None
    except (ClientError, ValueError):
        return None  # nobody listens there, or another program


@contextmanager
def _own_server(settings: Settings, directory: Path | None) -> "Iterator[Client]":
    from opencode.client import Client  # noqa: PLC0415 - as above
    from opencode.server.server import Server  # noqa: PLC0415 - over a second, not needed where a server runs

    token = secrets.token_urlsafe(24)
    server = Server(
        host="127.0.0.1",
        port=0,
        directory=directory or Path.cwd(),
        # The port is open to every user of this machine while it lives.
        auth={"enabled": True, "tokens": [f"{_owner(settings)}:{token}"]},
        rate_limit=False,
        log_level="error",
    )
    server.start()
    # Ended like this, too, the server hands back what runs.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with Client(f"http://127.0.0.1:{server.port}", token) as client:
            yield client
    finally:
        server.stop(_STOP_S)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _store(settings: Settings) -> "Iterator[Client]":
    """The store of this user, through the server's app without a port; unfinished turns stay as they are."""
    import httpx2  # noqa: PLC0415 - as above

    from opencode.client import Client  # noqa: PLC0415 - as above
    from opencode.server.factory import create_app  # noqa: PLC0415 - as above
    from opencode.wiring import build_services  # noqa: PLC0415 - as above

    token = secrets.token_urlsafe(24)
    here = {
        "host": "localhost",
        "auth": True,
        "auth_tokens": (f"{_owner(settings)}:{token}",),
        "rate_limit": False,
        "cors_origins": (),
    }
    services = build_services(settings.model_copy(update=here), environment(), takes_up=False)
    try:
        transport = httpx2.WSGITransport(app=create_app(services=services))
        with Client("http://localhost", token, transport=transport) as client:
            yield client
    finally:
        services.stop(0.0)


def _owner(settings: Settings) -> str:
    """Whose sessions a server with these settings would show to who holds `OPENCODE_TOKEN`."""
    from opencode.server.access import DEFAULT_OWNER, LOCAL_OWNER, tokens_of  # noqa: PLC0415 - as above

    tokens = tokens_of(settings)
    mine = [token.owner for token in tokens if token.secret == settings.token]
    owners = mine or [token.owner for token in tokens]
    return owners[0] if owners else DEFAULT_OWNER if settings.auth_on else LOCAL_OWNER


def _explained(message: str) -> str:
    if _IN_USE not in message:
        return message
    return (
        f"{message}\nIf that is a server at another address than OPENCODE_HOST and PORT name, speak to it:"
        " --url http://localhost:<its port>"
    )
