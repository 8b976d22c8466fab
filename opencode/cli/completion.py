"""`opencode completion`."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes `opencode` in SHELL.

    \b
    opencode completion bash >> ~/.bashrc
    opencode completion zsh >> ~/.zshrc
    opencode completion fish > ~/.config/fish/completions/opencode.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"This version of click completes nothing in {shell}.")
    click.echo(kind(context.find_root().command, {}, "opencode", "_OPENCODE_COMPLETE").source())
