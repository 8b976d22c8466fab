"""`python -m opencode`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python has put the working directory there, which may be the one that is served: see docs/decisions/0010.
        del sys.path[0]

    from opencode.cli.main import main

    main(prog_name="opencode")
