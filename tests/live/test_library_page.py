"""Every Python example of docs/library.md runs as printed, but for the port."""

import json
import os
import re
import signal
import subprocess
import sys

from tests.live.server import ROOT, environment, free_port

RUNNER = """
import json, sys
for number, block in enumerate(json.load(sys.stdin)):
    exec(compile(block, f"<example {number}>", "exec"), {"__name__": "__main__"})
print("all ran")
"""


def test_the_examples_run(tmp_path):
    text = (ROOT / "docs" / "library.md").read_text()
    port = str(free_port())
    blocks = [
        block.replace("3000", port) for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) >= 5
    environ = environment(tmp_path, PYTHONPATH=ROOT)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUNNER],
        cwd=tmp_path, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            child.stdin.write(json.dumps(blocks))
            child.stdin.close()
            assert child.stdout.readline() == f"Server running on http://localhost:{port}\n"
            os.kill(child.pid, signal.SIGTERM)  # the first example ends by it
            output, errors = child.stdout.read(), child.stderr.read()
        finally:
            child.kill()

    assert output.endswith("all ran\n"), errors
    assert re.search(r"^ses_\w+$", output, re.MULTILINE)
    assert "GET http://localhost:" in output
    assert "Request took app;dur=" in output
    assert "'requests.total': 1" in output
