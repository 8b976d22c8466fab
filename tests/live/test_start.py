"""What a start loads, and what it leaves to later."""

import json
import os
import signal
import sys

import pytest

from opencode.storage.sql import open_store
from tests.live.server import Server, run

pytestmark = pytest.mark.live

#: What the start of an embedded server without keys must do without: together they take longer than all the rest.
UNNEEDED = {
    "alembic",
    "anthropic",
    "dramatiq",
    "httpx2",
    "openai",
    "opencode.provider.demo.guide",
    "opencode.server.openapi",
    "psycopg",
    "pydantic.v1",
    "redis",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "textual",
    "urllib3",
}
#: A start whose hooks tell what is loaded when they have done their work, and whether the garbage collector runs.
TELLING = """
import gc, json, sys
from opencode.server import gunicorn_conf
from opencode.server.gunicorn_conf import *

def tell(where):
    print(where, json.dumps({"collects": gc.isenabled(), "loaded": sorted(sys.modules)}), flush=True)

def when_ready(server):
    gunicorn_conf.when_ready(server)
    tell("master")

def on_reload(server):
    gunicorn_conf.on_reload(server)
    tell("reloaded")

gc.disable()

def post_worker_init(worker):
    tell("app")
    gunicorn_conf.post_worker_init(worker)
    tell("worker")
"""


def test_a_start_loads_nothing_that_it_can_do_without_and_then_collects_garbage(tmp_path):
    data = tmp_path / "data"
    open_store(None, data).close()  # the schema is current
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(TELLING)

    with Server.gunicorn(tmp_path, "--config", str(config), OPENCODE_DATA_DIR=data) as server:
        os.kill(server.pid, signal.SIGHUP)
        told = {
            where: json.loads(server.says(rf"(?m)^{where} (.*)$", seconds=30)[1])
            for where in ("master", "app", "worker", "reloaded")
        }

    assert UNNEEDED & set(told["app"]["loaded"]) == set()
    assert "flask" in told["app"]["loaded"]
    collects = {where: found["collects"] for where, found in told.items()}
    assert collects == {"master": True, "app": False, "worker": True, "reloaded": True}


def test_what_the_start_has_put_off_is_there_soon_after(tmp_path):
    with Server.gunicorn(tmp_path, PYTHONPROFILEIMPORTTIME="1") as server:
        server.says(r"\| +opencode\.provider\.demo\.understanding\n", seconds=30)


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_the_commands_help_loads_click_and_little_else(tmp_path, command):
    code = """
import json, sys
from opencode.cli.main import main
main(sys.argv[1:], standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""
    done = run([sys.executable, "-c", code, command], tmp_path, PYTHONSAFEPATH="1")

    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "click" in loaded
    assert {"flask", "gevent", "gunicorn", "pydantic", "sqlalchemy", "asyncio"} & loaded == set()


@pytest.mark.parametrize("way", ["opencode", "python -m opencode"])
def test_the_working_directory_is_no_place_to_import_from(tmp_path, way):
    hostile = tmp_path / "work"
    hostile.mkdir()
    for name in ("click", "flask", "json", "prometheus_client", "sqlite3"):
        (hostile / f"{name}.py").write_text("raise SystemExit('the working directory was imported from')\n")
    server = Server.serve(tmp_path)
    if way == "opencode":
        server.command = ["opencode", *server.command[server.command.index("serve") :]]
    server.cwd = hostile

    with server:
        pass
    assert os.fspath(hostile) not in server.stderr()
