"""`python -m opencode`."""

from opencode.cli.main import main

main(prog_name="opencode")
