"""A wire server as a process of its own, for tests of a server that runs in another."""

import argparse
import contextlib
import json
import threading
from pathlib import Path


def main(wire_class):
    """Serve a script, print the base URL on the first line, and stop by itself."""
    parser = argparse.ArgumentParser(description=wire_class.__doc__)
    help_text = '{"turns": [[entry, …], …], "loop": false, "per_conversation": false, "api_key": null}'
    parser.add_argument("--script", type=Path, required=True, help=help_text)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120, help="how long to live at most")
    options = parser.parse_args()
    script = json.loads(options.script.read_text(encoding="utf-8"))
    with wire_class(script.pop("turns"), port=options.port, **script) as wire:
        print(wire.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait(options.seconds)
