"""`opencode db`: the store as a whole."""

import os
from collections.abc import Callable
from typing import TypeVar

import click

from opencode.errors import OpenCodeError, SettingsError
from opencode.settings import Settings, load
from opencode.wiring import database

_Result = TypeVar("_Result")


@click.group()
def db() -> None:
    """Upgrade, check and move the store that DATABASE_URL names (default: the embedded one).

    \b
    opencode db check
    DATABASE_URL=postgresql://… opencode db copy
    """


@db.command()
def upgrade() -> None:
    """Bring the schema up to date. Servers do so by themselves at their start; this is for doing it before."""
    revision = _tried(database.upgrade)
    click.echo(f"The schema is {revision}, as this version needs it.")


@db.command()
def check() -> None:
    """Look whether the store is sound: its file, its logs, its turns. Exit code 1 where it is not."""
    sizes, faults = _tried(database.check)
    click.echo(", ".join(f"{count} {name}" for name, count in sizes.items()))
    for line in faults:
        click.echo(line, err=True)
    if faults:
        raise click.exceptions.Exit(1)
    click.echo("All is well.")


@db.command()
@click.option("--from", "source", metavar="URL", help="The store to copy.  [default: the embedded one]")
def copy(source: str | None) -> None:
    """Copy a whole store into the empty database that DATABASE_URL names. Stop its server first.

    \b
    DATABASE_URL=postgresql://… opencode db copy
    DATABASE_URL=postgresql://… opencode db copy --from sqlite:////var/lib/opencode/store.sqlite3
    """

    def run(settings: Settings) -> dict[str, int]:
        if settings.database_url is None:
            raise SettingsError("Set DATABASE_URL to where the copy shall be: postgresql://user:password@host/database")
        return database.copy(settings, source)

    copied = _tried(run)
    click.echo("Copied: " + ", ".join(f"{count} {name}" for name, count in copied.items()))


def _tried(work: Callable[[Settings], _Result]) -> _Result:
    try:
        return work(load(os.environ)[0])
    except OpenCodeError as exc:
        raise click.ClickException(str(exc)) from None
