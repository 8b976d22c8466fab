"""The command as people type it, in a process of its own."""

import re
import shutil
import socket
import subprocess
import sys

import pytest

from opencode.version import VERSION
from tests.live.server import free_port, run

pytestmark = pytest.mark.once

OPENCODE = (sys.executable, "-m", "opencode")


@pytest.fixture
def opencode(tmp_path):
    """Run it in an empty directory."""
    work = tmp_path / "work"
    work.mkdir()

    def start(*words, **variables):
        return run([*OPENCODE, *words], tmp_path, cwd=work, **{"PYTHONSAFEPATH": "1", **variables})

    start.work = work
    return start


def refused(done, code=1):
    """What it says when it does not start: one message, no trace."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_help_shows_the_commands_and_how_to_begin(opencode):
    done = opencode("--help")

    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(r"^Usage: opencode \[OPTIONS\] COMMAND", done.stdout)
    assert re.search(r"^  serve +Serve DIR", done.stdout, re.MULTILINE)
    assert re.search(r"^  run +Run one turn", done.stdout, re.MULTILINE)
    assert re.search(r"^  session +List, show, delete and export sessions", done.stdout, re.MULTILINE)
    assert re.search(r"^  models +List the models", done.stdout, re.MULTILINE)
    assert "opencode serve ~/project" in done.stdout
    assert opencode("-h").stdout == done.stdout


def test_version_is_the_packages(opencode):
    assert opencode("--version").stdout == f"opencode, version {VERSION}\n"


def test_help_of_serve_shows_every_flag(opencode):
    said = " ".join(opencode("serve", "--help").stdout.split())

    for flag in ("--host", "--port", "--auth / --no-auth", "--workers", "--model", "--cors", "--allow-host"):
        assert flag in said
    assert "[default: 3000]" in said
    assert "OPENCODE_AUTH_TOKENS=ann:s3cret opencode serve --host 0.0.0.0" in said


def test_models_are_listed_with_what_they_lack(opencode):
    done = opencode("models", OPENAI_API_KEY="sk-of-a-test")

    assert done.returncode == 0
    assert re.search(r"^\* demo/guide +ready$", done.stdout, re.MULTILINE)
    assert re.search(r"^  openai/\S+ +ready$", done.stdout, re.MULTILINE)
    assert re.search(r"^  anthropic/\S+ +set ANTHROPIC_API_KEY", done.stdout, re.MULTILINE)
    assert "* is the default: OPENCODE_MODEL or --model names it." in done.stdout
    assert "sk-of-a-test" not in done.stdout + done.stderr


def test_an_unknown_command_is_a_usage_error(opencode):
    assert "No such command 'sevre'" in refused(opencode("sevre"), 2)


def test_an_unknown_model_stops_the_start_and_lists_what_there_is(opencode):
    said = refused(opencode("models", OPENCODE_MODEL="nonsense"))

    assert "OPENCODE_MODEL: Unknown model: nonsense. Usable: demo/guide" in said


# Help and completion


@pytest.mark.parametrize("command", [("run",), ("session",), *[("session", own) for own in ("list", "show", "delete", "export")]], ids=" ".join)  # fmt: skip
def test_help_teaches_by_examples(opencode, command):
    done = opencode(*command, "--help")

    assert done.returncode == 0
    assert f"\n  opencode {' '.join(command)} " in done.stdout


@pytest.mark.parametrize(
    ("shell", "command"), [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])]
)
def test_completion_prints_a_script_that_the_shell_can_read(opencode, tmp_path, shell, command):
    done = opencode("completion", shell)
    script = tmp_path / "script"
    script.write_text(done.stdout)

    assert done.returncode == 0
    assert "_OPENCODE_COMPLETE" in done.stdout
    if shutil.which(command[0]):
        subprocess.run([*command, script], check=True, timeout=30)


def test_completion_knows_commands_and_options(opencode):
    def complete(*words):
        variables = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        return opencode(_OPENCODE_COMPLETE="bash_complete", **variables).stdout.split()

    assert complete("opencode", "se") == ["plain,serve", "plain,session"]
    assert "plain,--continue" in complete("opencode", "run", "--c")


# What `serve` refuses before it listens.


def test_a_busy_port_is_an_error_that_names_the_fix(opencode):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(opencode("serve", "--port", str(port)))

    assert f"Cannot listen at 127.0.0.1:{port}: Address already in use." in said
    assert re.search(r"choose another:\s+opencode serve --port \d+", said)


def test_an_unknown_directory_is_named(opencode):
    said = refused(opencode("serve", "nowhere"), 2)

    assert "'nowhere' does not exist" in said


def test_several_workers_are_refused_with_the_reason(opencode):
    said = refused(opencode("serve", "--workers", "2", "--port", str(free_port())))

    assert "cannot share the embedded store" in said


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        ((), {"OPENCODE_RATE_LIMIT": "perhaps"}, r"OPENCODE_RATE_LIMIT must be on or off .*not 'perhaps'.*Correct it"),
        ((), {"PORT": "http"}, r"PORT must be a whole number up to 65535.*not 'http'\. Its default is 3000"),
        ((), {"OPENCODE_PERMISSION": "bash=perhaps"}, r"OPENCODE_PERMISSION must be tool=allow\|ask\|deny pairs"),
        ((), {"OPENCODE_AUTH_TOKENS": "a:b:c:secret"}, r"OPENCODE_AUTH_TOKENS, entry 1: must be token, name:token or"),
        (
            ("--cors", "*"),
            {"OPENCODE_CORS_CREDENTIALS": "on"},
            r"^Error: OPENCODE_CORS_ORIGINS=\* .*credentials off\.$",
        ),
        (("--port", "70000"), {}, r"70000 is not in the range 0<=x<=65535"),
    ],
)
def test_a_malformed_setting_is_named_with_its_form(opencode, words, variables, expected):
    done = opencode("serve", *words, **variables)

    assert done.returncode in {1, 2}
    assert re.search(expected, " ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('log_level = "loud"', r"opencode\.toml must be debug, info, warning or error .*not 'loud'"),
        ("max_steps = ", r"opencode\.toml is not valid TOML"),
        (
            "auth = false",
            r"opencode\.toml: auth cannot be set here, since tools can write this file\. Set OPENCODE_AUTH",
        ),
    ],
    ids=["wrong value", "no TOML", "opens the door"],
)
def test_the_projects_file_is_read_and_its_faults_are_named(opencode, toml, expected):
    (opencode.work / "opencode.toml").write_text(toml)

    assert re.search(expected, " ".join(refused(opencode("serve", "--port", str(free_port()))).split()))


def test_the_projects_file_sets_what_the_environment_does_not(opencode):
    (opencode.work / "opencode.toml").write_text('model = "openai/from-the-file"\n')

    assert "* openai/from-the-file" in opencode("models", OPENCODE_MODEL="").stdout
    assert "* openai/from-the-environment" in opencode("models", OPENCODE_MODEL="openai/from-the-environment").stdout
