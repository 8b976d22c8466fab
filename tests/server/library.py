"""A `Server` of the library for tests: on a free port, with a store and a directory of its own, and a scripted model."""

import json
from pathlib import Path
from typing import Any

from opencode import Server

HELLO = [[{"text": "Hello, "}, {"text": "world."}, {"usage": {"input": 7, "output": 3}}]]


def server(folder: Path, script: list[list[dict[str, Any]]] | None = None, **options: Any) -> Server:
    """Not started yet; two of one folder share their store."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    path = folder / "script.json"
    path.write_text(json.dumps({"turns": script or HELLO, "loop": True}))
    own = {"data_dir": folder / "data", "directory": work, "model": "scripted/script", "script": path}
    return Server(**{"port": 0, "rate_limit": False, **own, **options})


def gate(folder: Path) -> tuple[Path, list[list[dict[str, Any]]]]:
    """A turn that says "a ", and goes on when the file is there."""
    path = folder / "go"
    return path, [[{"text": "a "}, {"wait_file": str(path)}, {"text": "b"}, {"usage": {"input": 1, "output": 1}}]]
