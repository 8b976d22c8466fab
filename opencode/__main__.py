"""`python -m opencode`."""

from opencode.cli.main import main

if __name__ == "__main__":
    main(prog_name="opencode")
