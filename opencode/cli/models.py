"""`opencode models`."""

import os

import click

from opencode.errors import SettingsError
from opencode.settings import load


@click.command()
def models() -> None:
    """List the models: which can be used now, and what the others lack."""
    from opencode.wiring import find_models  # noqa: PLC0415 - half a second that the other commands need not wait

    try:
        settings, _warnings = load(os.environ)
        known, reason = find_models(settings)
    except SettingsError as exc:
        raise click.ClickException(str(exc)) from None
    listed = known.usable()
    width = max(len(model.id) for model in listed)
    for model in listed:
        state = model.missing or "ready"
        click.echo(f"{'*' if model.default else ' '} {model.id:<{width}}  {state}")
    click.echo(f"\n* is the default: {reason}. Choose another with OPENCODE_MODEL or --model.")
