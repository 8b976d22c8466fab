"""Commands run within the tests' own process: what is imported once need not be imported for each."""

import os
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from opencode.cli.main import main

_OURS = ("OPENCODE_", "ANTHROPIC_", "OPENAI_", "PORT", "DATABASE_URL", "REDIS_URL")


def run_inside(words, environment, cwd, piped=""):
    """What `subprocess.run` would give. Nothing of the caller's settings is seen; standard input is a pipe."""
    hidden = dict.fromkeys(name for name in os.environ if name.startswith(_OURS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        done = CliRunner().invoke(main, list(words), input=piped, env=hidden | environment, catch_exceptions=False)
    return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)
