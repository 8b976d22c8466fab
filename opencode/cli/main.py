"""The command `opencode`."""

import io
import sys

import click

from opencode.cli.attach import attach
from opencode.cli.completion import completion
from opencode.cli.db import db
from opencode.cli.models import models
from opencode.cli.run import run
from opencode.cli.serve import serve
from opencode.cli.session import session
from opencode.cli.worker import worker
from opencode.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="opencode")
def main() -> None:
    """An AI coding agent behind HTTP: sessions, turns streamed as Server-Sent Events, tools on a real directory.

    \b
    opencode serve                 serve the current directory on http://localhost:3000
    opencode serve ~/project       serve another one
    opencode run "run the tests"   one turn, in this terminal
    opencode session list          the sessions that there are
    opencode attach                a terminal interface to a running server
    opencode worker                run turns for servers that share PostgreSQL and Redis
    opencode models                which models can be used, and what the others lack
    opencode db check              look after the store, or copy it to PostgreSQL
    opencode completion bash       complete commands and options in your shell
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not know all characters of a text


main.add_command(serve)
main.add_command(run)
main.add_command(session)
main.add_command(attach)
main.add_command(models)
main.add_command(worker)
main.add_command(db)
main.add_command(completion)
