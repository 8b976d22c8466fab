"""The command `opencode`."""

import gc
import io
import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from opencode.version import VERSION

#: Each is the command of this name in the module of this name, and what it does: the same as its help begins with.
_COMMANDS = {
    "attach": "Attach this terminal to the server at URL (default: http://localhost:3000).",
    "completion": "Print the script that completes `opencode` in SHELL.",
    "db": "Upgrade, check and move the store that DATABASE_URL names (default: the embedded one).",
    "models": "List the models: which can be used now, and what the others lack.",
    "run": "Run one turn and stream it: text to the terminal as it comes, tools with the beginning of their output.",
    "serve": "Serve DIR (default: the current directory) to web pages, terminals and programs.",
    "session": "List, show, delete and export sessions, of the server that runs, or of your own where none does.",
    "worker": "Run turns for servers that are started with OPENCODE_TURNS=worker.",
}


class _Commands(click.Group):
    """Imports a command when it is asked for: neither help nor `serve` need wait for what `db` works with."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=does) for name, does in _COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        # What an import makes is to stay: to look for garbage in it would take a tenth of its time.
        gc.disable()
        try:
            command: click.Command = getattr(import_module(f"opencode.cli.{cmd_name}"), cmd_name)
        finally:
            gc.enable()
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
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
