"""What the command says of its commands without importing them."""

import click
import pytest

from opencode.cli.main import main

CONTEXT = click.Context(main)
LINES = {item.value: item.help for item in main.shell_complete(CONTEXT, "") if not item.value.startswith("-")}


def test_there_is_a_line_for_each_command():
    assert list(LINES) == main.list_commands(CONTEXT)
    assert main.get_command(CONTEXT, "no-such-command") is None


@pytest.mark.parametrize("name", LINES)
def test_it_is_the_first_of_the_commands_own_help(name):
    command = main.get_command(CONTEXT, name)

    assert command.name == name
    assert LINES[name] == command.get_short_help_str(limit=1000)
