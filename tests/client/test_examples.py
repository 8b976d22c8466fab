"""The examples of docs/client.md run as they are printed; only the port is another."""

import contextlib
import io
import re

import pytest

from tests.live.server import ROOT, Server

pytestmark = pytest.mark.live


def test_the_examples_of_the_page(tmp_path):
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    printed = []
    names = {}
    with Server.serve(tmp_path) as server:
        (server.work / "hello.txt").write_text("hello")
        for block in blocks:
            assert "http://localhost:3000" in block
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(block.replace("localhost:3000", f"127.0.0.1:{server.port}"), names)
            printed.append(out.getvalue())

    assert "hello.txt" in printed[0]
    assert re.search(r"\ncompleted, \d+ tokens\n$", printed[0])
    assert printed[1].startswith("completed I'll run `pwd`.")
    assert str(server.work) in printed[1]
    assert "hello.txt" in printed[1]
    assert printed[2].startswith("asked for: bash {'command': 'pwd'}\n")
    assert str(server.work) in printed[2]
    assert printed[3] == ""
    assert names["newest"].title == "Followed"
    assert names["everything"][0] == "Followed"
    assert names["stored"][-1].name == "done"
    assert printed[4] == "404 SESSION_NOT_FOUND\n"
