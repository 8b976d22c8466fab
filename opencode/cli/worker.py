"""`opencode worker`: runs turns that servers have stored, beside any number of other workers."""

import logging
import os
import signal
import sys
import threading

import click

from opencode.errors import OpenCodeError, SettingsError
from opencode.settings import Settings, load

log = logging.getLogger(__name__)

#: As a server's: of the time that platforms give, what running turns get.
_GRACE_S = 10.0


@click.command()
@click.option("--turns", type=click.IntRange(1, 1000), default=16, show_default=True, help="Turns that run at once.")
def worker(turns: int) -> None:
    """Run turns for servers that are started with OPENCODE_TURNS=worker.

    Servers and workers share DATABASE_URL (PostgreSQL), REDIS_URL and the directories that sessions work in. Any number
    of them may come and go: the turns of one that dies are taken over by the others.

    \b
    DATABASE_URL=postgresql://… REDIS_URL=redis://… opencode worker
    opencode worker --turns 32
    """
    from opencode.server.logs import set_up  # noqa: PLC0415 - `opencode --help` needs none of this
    from opencode.undumpable import close_memory  # noqa: PLC0415 - as above

    close_memory()
    try:
        settings, warnings = load(os.environ)
        set_up(settings)
        for warning in warnings:
            log.warning(warning)
        if not settings.several_processes:
            raise SettingsError(
                "A worker shares its store with servers: set DATABASE_URL=postgresql://… and REDIS_URL=redis://…"
                " Without them turns run in the server, and no worker is needed."
            )
        _run(settings, turns)
    except OpenCodeError as exc:
        raise click.ClickException(str(exc)) from None


def _run(settings: Settings, turns: int) -> None:
    from opencode.wiring.worker import start_worker  # noqa: PLC0415 - as above

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = start_worker(settings, os.environ, slots=turns)
    sys.stdout.write(f"opencode worker {os.getpid()} is ready, for {turns} turns at once.\n")
    sys.stdout.flush()
    stop.wait()
    running.stop(_GRACE_S)
