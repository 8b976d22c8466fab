"""The tutorial's last step, as printed: the page edits a file, asks before it runs a command, and shows the changes."""

import re
import shutil

import pytest
from playwright.sync_api import expect

from tests.browser.desk import Desk
from tests.live.client import Client
from tests.live.server import ROOT, Server

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


@pytest.fixture
def calculator(tmp_path):
    work = shutil.copytree(ROOT / "examples" / "calculator", tmp_path / "calculator")
    with Server.serve(tmp_path / "home", work=work, OPENCODE_MODEL="demo/guide") as server:
        yield server


def test_the_last_step_of_the_tutorial(page, calculator):
    # Given the session as the steps before have left it
    client = Client(calculator)
    session = client.session()
    client.turn(session, "replace a // b with a / b in calculator.py")
    client.call("PATCH", f"/api/session/{session}", {"permission": {"bash": "ask"}})
    assert "return a / b" in (calculator.work / "calculator.py").read_text()
    step = TUTORIAL[TUTORIAL.index("## 6.") : TUTORIAL.index("## Where")]
    [request] = re.findall(r"^    (replace .*)$", step, re.MULTILINE)
    [command] = re.findall(r"Send `([^`]+)`", step)

    # When it is found in the list, and asked for what is printed
    desk = Desk(page, f"http://localhost:{calculator.port}").open()
    page.get_by_role("navigation").get_by_text("replace a // b").first.click()
    expect(desk.turns).to_have_count(1)
    desk.ask(request)
    desk.ended()

    # Then the file is edited, and a command waits for a yes
    assert "return a // b" in (calculator.work / "calculator.py").read_text()
    turn = desk.ask(command)
    desk.button("Allow once").click()
    desk.ended()
    expect(turn).to_contain_text("the last: 3.")
