"""The container files agree with the program: what they copy is there, what they start exists, what they set is read."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from opencode.cli.main import main
from opencode.redis_client import connect
from opencode.settings import load
from opencode.storage.engine import parse

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
_GIVEN = {"OPENCODE_AUTH_TOKENS": "me:a-long-secret-of-this-test"}
_VARIABLE = re.compile(r"\$\{(\w+)(:-|:\?)([^}]*)\}")


def environment(service):
    """What a service's process is given, with compose's own form of variables filled in."""

    def value(found):
        name, kind, otherwise = found.groups()
        assert kind == ":-" or name in _GIVEN, f"{name} has no default"
        return _GIVEN.get(name, otherwise)

    return {name: _VARIABLE.sub(value, text) for name, text in COMPOSE["services"][service]["environment"].items()}


def lines(name):
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def image(keyword):
    return [line.removeprefix(keyword).strip() for line in lines("Containerfile") if line.startswith(f"{keyword} ")]


@pytest.mark.parametrize("service", ["web", "worker"])
def test_what_compose_sets_is_read_and_points_at_its_own_services(service, tmp_path):
    settings, warnings = load(environment(service), directory=tmp_path)

    assert warnings == []
    assert settings.several_processes
    assert settings.turns == "worker"
    assert parse(settings.database_url).host == "postgres"
    # A service may have the name of the program in it.
    assert connect(settings.redis_url, timeout_s=1.0).connection_pool.connection_kwargs["host"] == "valkey"
    assert {"postgres", "valkey"} <= set(COMPOSE["services"][service]["depends_on"]) <= set(COMPOSE["services"])


def test_the_database_that_compose_makes_is_the_one_that_is_asked_for():
    url, made = urlsplit(environment("web")["DATABASE_URL"]), environment("postgres")

    assert (url.username, url.password) == (made["POSTGRES_USER"], made["POSTGRES_PASSWORD"])
    assert url.path == f"/{made['POSTGRES_USER']}"


def test_what_is_started_exists_and_only_this_machine_reaches_it():
    services = COMPOSE["services"]
    command = services["worker"]["command"]

    assert command[0] == "opencode"
    assert CliRunner().invoke(main, [*command[1:], "--help"]).exit_code == 0
    assert (ROOT / services["web"]["build"]["dockerfile"]).is_file()
    assert json.loads(image("CMD")[0]) == shlex.split(
        next(line for line in lines("Procfile") if line.startswith("web:")).removeprefix("web:")
    )
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    used = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_the_image_runs_as_nobody_special_and_its_settings_are_read(tmp_path):
    variables = dict(pair.split("=", 1) for line in image("ENV") for pair in line.split())
    settings, warnings = load(variables, directory=tmp_path)

    assert warnings == []
    assert str(settings.port) in image("EXPOSE")
    assert image("USER") == ["opencode"]
    for line in image("COPY"):
        *sources, _target = shlex.split(line)
        assert all((ROOT / source).exists() for source in sources)


def test_nothing_of_the_developers_folder_comes_into_the_image():
    left_out = lines(".dockerignore")

    assert ".*" in left_out  # .git, .venv, .work
    assert "**/__pycache__" in left_out
