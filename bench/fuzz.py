"""What the API document promises, tried at random: `python -m bench.fuzz [--examples 100] [--seed N]`.

Starts a server and lets schemathesis make requests from its `/openapi.json`, right ones and wrong ones, single and in
chains in which the ids of answers are used. Each answer must be one that the document has: its status, its kind, its
schema; none may be a 500. Streams that end are in it (`?until=end`, a turn); those that do not are left out, as is the
upgrade to a WebSocket.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from tests.live.server import Server

#: The server's own rules are tested elsewhere; here each answer is held against the document.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
SCRIPT = {
    "loop": True,
    "turns": [
        [
            {"text": "Let me see. "},
            {"tool": "read", "params": {"path": "notes.txt"}},
            {"usage": {"input": 7, "output": 3, "cached": 0}},
        ],
        [{"text": "It says hello."}, {"usage": {"input": 9, "output": 4, "cached": 0}}],
    ],
}
PHASES = "examples,coverage,fuzzing,stateful"
#: What has no end, by path.
ENDLESS = ("/ws", "/tui/events")


def prepare(document: dict[str, Any]) -> dict[str, Any]:
    """The document of what ends, in a form that schemathesis takes as it is meant."""
    found = copy.deepcopy(document)
    endless = {own["operationId"] for path in ENDLESS for own in found["paths"].pop(path).values()}
    for methods in found["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                for name in endless & set(response.get("links", ())):
                    del response["links"][name]
                # Of one event's data, for tools that know no `itemSchema`; here it would be taken for all events.
                response.get("content", {}).get("text/event-stream", {}).pop("schema", None)
            for parameter in operation["parameters"]:
                if parameter["name"] == "until":
                    parameter |= {"required": True, "schema": {"type": "string", "enum": ["end"]}}
    return found


def fuzz(
    folder: Path, examples: int, *, seed: int = 1, phases: str = PHASES, limit_s: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis with so many examples of each operation and as many chains. Its exit code is 0 if all is well.

    `phases` are schemathesis' own; `coverage` walks through the bounds of every field.
    """
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "notes.txt").write_text("hello\n")
    (folder / "script.json").write_text(json.dumps(SCRIPT))
    variables = {"OPENCODE_SCRIPT": folder / "script.json", "OPENCODE_MODEL": "scripted/script"}
    variables |= {"OPENCODE_RATE_LIMIT": "off", "OPENCODE_PERMISSION_TIMEOUT_S": 1}
    with Server.serve(folder / "home", work=folder / "work", **variables) as server:
        url = f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(f"{url}/openapi.json", timeout=30) as answer:
            document = prepare(json.load(answer))
        (folder / "openapi.json").write_text(json.dumps(document))
        command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", url, "--no-color"]
        command += ["--checks", ",".join(CHECKS), "--phases", phases, "--seed", str(seed)]
        command += ["--max-examples", str(examples), "--no-shrink", "--generation-database", "none"]
        command += ["--warnings", "off", "--request-timeout", "60", "--suppress-health-check", "all"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="of each operation, and chains")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = fuzz(Path(folder), given.examples, seed=given.seed)
    print(done.stdout, done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
