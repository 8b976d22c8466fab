"""The examples of docs/client.md and of the README run as they are printed; only the port is another."""

import contextlib
import io
import re

import pytest

from tests.live.server import ROOT, Server

pytestmark = pytest.mark.live


def run_examples(page, server):
    """What each of the page's examples prints, and the names that they leave."""
    printed = []
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if "opencode.client" in block or printed:
            assert "http://localhost:3000" in block
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(block.replace("localhost:3000", f"127.0.0.1:{server.port}"), names)
            printed.append(out.getvalue())
    return printed, names


@pytest.fixture
def server(tmp_path):
    with Server.serve(tmp_path) as server:
        (server.work / "hello.txt").write_text("hello")
        yield server


def test_the_example_of_the_readme(server):
    [printed], _ = run_examples(ROOT / "README.md", server)

    assert "test" in printed


def test_the_examples_of_the_page(server):
    printed, names = run_examples(ROOT / "docs" / "client.md", server)

    assert len(printed) == 5
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
