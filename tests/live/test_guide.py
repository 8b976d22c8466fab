"""Each command that docs/api.md and the README print is run as printed there; only port and ids are others."""

import re
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from tests.live.server import ROOT, Server, until

LIMIT_S = 60.0


def commands(page, block=None):
    """The commands of a page's shell examples, or of the one that has `block` in it, without their comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        own for own in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if block is None or block in own
    ]
    lines = "".join(found).replace("\\\n", " ").splitlines()
    bare = (re.sub(r"\s+#.*$", "", line).removesuffix("&").strip() for line in lines)
    return [line for line in bare if line and not line.startswith("#")]


@pytest.fixture
def example(tmp_path):
    work = shutil.copytree(ROOT / "examples" / "calculator", tmp_path / "calculator")
    with Server.serve(tmp_path / "home", work=work, OPENCODE_RATE_LIMIT="off") as server:
        yield server


class Reader:
    """Types what it reads, and puts in what the guide leaves out: what an answer before it has said."""

    def __init__(self, server, folder, stack):
        self._server = server
        self._folder = folder
        self._stack = stack
        self._session = ""
        self._runs = []
        self._endless = set()

    def _output(self):
        return "".join(path.read_text(encoding="utf-8") for _, path in self._runs)

    def _last(self, pattern):
        return re.findall(pattern, self._output())[-1]

    def type(self, command):
        """Run it to its end, or to where it only waits: for what comes next, or for an answer of the reader's."""
        given = command.replace("localhost:3000", f"localhost:{self._server.port}").replace("<token>", "any")
        for gap, pattern in (("WyJ…", r'"ticket":"([^"]+)'), ("per_…", r"per_\w+"), ("281", r'"seq":(\d+)')):
            given = given.replace(gap, self._last(pattern)) if gap in given else given
        given = given.replace("ses_…", self._session)
        path = self._folder / f"{len(self._runs)}.out"
        with path.open("wb") as out:
            variables = {**self._server.environment, "S": self._session}
            process = subprocess.Popen(["sh", "-euc", f"exec {given}"], env=variables, stdout=out, stderr=out)
        self._stack.callback(process.wait, LIMIT_S)
        self._stack.callback(process.kill)
        self._runs.append((process, path))
        follows = "-sN" in given and " -d " not in given
        if follows:
            self._endless.add(process)
        waits = r"^retry: \d+\n" if follows else r"^event: permission_request\n"
        until(
            lambda: process.poll() is not None or re.search(waits, path.read_text(encoding="utf-8"), re.MULTILINE),
            LIMIT_S,
            lambda: f"{given}\n{path.read_text()}",
        )
        assert process.poll() in {None, 0}, (given, path.read_text())
        if "-X POST" in given and given.count("/") and "/api/session " in given:
            self._session = self._last(r'"session_id":"(ses_\w+)')

    def wait(self):
        """All but those that follow for good have ended, and these have shown all that the rest did."""
        for process, path in self._runs:
            if process not in self._endless:
                assert process.wait(LIMIT_S) == 0, path.read_text()
        shown = ("permission_request", "permission_reply", "session_selected", "prompt")
        until(lambda: all(f"event: {name}\n" in self._output() for name in shown), LIMIT_S, self._output)
        return self._output()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands_of_the_guide_do_what_they_are_printed_for(example, tmp_path):
    printed = commands("docs/api.md")
    assert len(printed) >= 15
    first = next(own for own in printed if "/api/session " in own)

    with ExitStack() as stack:
        reader = Reader(example, tmp_path, stack)
        for command in [first, *printed]:
            reader.type(command)
        output = reader.wait()

        assert re.findall(r'"error":\{.*', output) == []
        ends = re.findall(r'"duration":\d+,"status":"(\w+)"', output)
        assert len(ends) >= 3
        assert set(ends) == {"completed"}
        assert '{"success":true,"aborted":false}' in output


def test_the_commands_of_the_readme_do_what_they_are_printed_for(example):
    printed = commands("README.md", "opencode run")
    assert len(printed) >= 6
    variables = {**example.environment, "PORT": str(example.port)}
    newest = ""
    for command in printed:
        given = command if shutil.which("jq") else command.partition(" | jq")[0]
        given = given.replace("ses_01m8…", newest)
        done = subprocess.run(
            ["sh", "-euc", given], cwd=example.work, env=variables, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert (done.returncode, "Error" in done.stderr) == (0, False), (given, done.stdout, done.stderr)
        if "session list" in given:
            newest = done.stdout.split()[0]
            assert done.stdout.count("\n") == 3  # the one that was continued is one
    assert (example.work / "talk.md").read_text(encoding="utf-8").startswith("# ")
