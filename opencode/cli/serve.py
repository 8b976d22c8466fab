"""`opencode serve`: checks what it is asked for, then goes on as gunicorn."""

import gc
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

import click

from opencode.errors import SettingsError
from opencode.server.access import check_access
from opencode.server.desktop import has_desktop
from opencode.server.gunicorn_conf import bind_addresses, cannot_listen
from opencode.settings import is_loopback, load

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=_FOLDER)
@click.option("--host", help="Address to listen on.  [default: localhost]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 3000]")
@click.option("--auth/--no-auth", default=None, help="Ask for a token.  [default: beyond localhost]")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes; above 1 with PostgreSQL and Redis.")
@click.option("--model", help="Default model, as provider/model; `opencode models` lists them.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="A page that may call, such as https://app.example.com.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further Host name that requests may carry.")
@click.option("--open/--no-open", "opens", default=None, help="Open the page.  [default: at a terminal on a desktop]")
def serve(  # noqa: PLR0917 - click passes them by name
    directory: Path,
    host: str | None,
    port: int | None,
    auth: bool | None,
    workers: int | None,
    model: str | None,
    cors: tuple[str, ...],
    allow_host: tuple[str, ...],
    opens: bool | None,
) -> None:
    """Serve DIR (default: the current directory) to web pages, terminals and programs.

    Tools work on real files in DIR. On localhost no token is needed; beyond it one is asked for, and made where
    OPENCODE_AUTH_TOKENS sets none.

    \b
    opencode serve --port 8080
    opencode serve --auth
    opencode serve --host 0.0.0.0 --port 8080
    OPENCODE_AUTH_TOKENS=ann:s3cret opencode serve --host 0.0.0.0
    """
    flags = {
        "OPENCODE_DIRECTORY": str(directory.resolve()),
        "OPENCODE_HOST": host or os.environ.get("OPENCODE_HOST") or "localhost",
        "PORT": None if port is None else str(port),
        "OPENCODE_AUTH": None if auth is None else "on" if auth else "off",
        "OPENCODE_MODEL": model,
        "WEB_CONCURRENCY": None if workers is None else str(workers),
        "OPENCODE_CORS_ORIGINS": ",".join(cors),
        "OPENCODE_ALLOWED_HOSTS": ",".join(allow_host),
        "OPENCODE_OPEN": None if opens is None else "on" if opens else "off",
    }
    environ = _absolute({**os.environ, **{name: value for name, value in flags.items() if value}})
    if "OPENCODE_OPEN" not in environ and sys.stdout.isatty() and has_desktop(environ, sys.platform):
        environ["OPENCODE_OPEN"] = "on"
    try:
        bind = _checked(environ, directory, workers or 1)
    except SettingsError as exc:
        raise click.ClickException(str(exc)) from None
    _run_gunicorn(environ, bind)


def _absolute(environ: dict[str, str]) -> dict[str, str]:
    """Paths from here, as the server will work elsewhere (see `_run_gunicorn`)."""
    for name in ("OPENCODE_DATA_DIR", "OPENCODE_SCRIPT", "OPENCODE_PROJECT_ROOTS", "OPENCODE_SANDBOX_READABLE"):
        if environ.get(name):
            paths = (path.strip() for path in environ[name].split(","))
            environ[name] = ",".join(str(Path(path).expanduser().absolute()) for path in paths if path)
    return environ


def _checked(environ: dict[str, str], directory: Path, workers: int) -> list[str]:
    """The addresses to bind, after all that can be refused has been looked at."""
    settings, _warnings = load(environ, directory=directory.resolve())
    check_access(settings)
    if workers > 1 and not settings.several_processes:
        raise SettingsError(
            "--workers above 1 cannot share the embedded store. One worker holds thousands of streams; several need"
            " DATABASE_URL=postgresql://… and REDIS_URL=redis://…"
        )
    if settings.auth is False and not is_loopback(settings.host):
        raise SettingsError(
            f"--no-auth with --host {settings.host} would let anyone who reaches it run commands here. Leave out"
            " --no-auth, or listen at localhost."
        )
    bind = bind_addresses(settings.host, str(settings.port))
    for address in bind:
        _check_free(address, settings.port)
    return bind


def _check_free(address: str, port: int) -> None:
    host, _, _ = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as exc:
        raise SettingsError(cannot_listen(address, port, exc, "opencode serve --{} {}".format)) from None


def _run_gunicorn(environ: dict[str, str], bind: list[str]) -> NoReturn:
    """Go on as gunicorn, in this process: signals go straight to it, and what is imported by now is not imported anew.

    The served directory must not be a place to import from: a project's own `json.py` would run in the server. gunicorn
    puts the directory in which it is imported on the path, so that it works elsewhere.
    """
    home = Path(__file__).resolve().parents[2]
    os.environ.update(environ)
    os.chdir(home)
    sys.argv = [sys.argv[0], "opencode.server.factory:create_app()", "--config", "python:opencode.server.gunicorn_conf"]
    for address in bind:
        sys.argv += ["--bind", address]
    sys.stdout.flush()
    gc.disable()  # the hooks of `gunicorn_conf` turn it on again
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - not before the change of the directory, see above

    run()
    sys.exit(0)
