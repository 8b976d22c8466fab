"""What the server says and does about the sandbox that its settings ask for."""

import logging
import os

import pytest

from opencode.errors import SettingsError
from opencode.server.access import tokens_of
from opencode.server.banner import banner
from opencode.settings import Settings
from opencode.wiring import build_services
from tests.tool.boxed import found

NO_NAMESPACES = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"


@pytest.fixture(autouse=True)
def heard(monkeypatch):
    """Whatever another test has set up, the log reaches `caplog`."""
    monkeypatch.setattr(logging.getLogger("opencode"), "propagate", True)


@pytest.fixture
def start(make_app, tmp_path):
    """Services with `settings`, where the program `bwrap` is the given script, the machine's, or missing."""
    running = []

    def started(*, bwrap="", **settings):
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        if bwrap == "installed":
            path = os.environ["PATH"]
        else:
            path = str(programs)
            if bwrap:
                (programs / "bwrap").write_text(bwrap)
                (programs / "bwrap").chmod(0o755)
        services = build_services(make_app.settings(model="demo/guide", **settings), {"PATH": path}, providers=None)
        running.append(services)
        return services

    yield started
    for services in running:
        services.stop(0)


def test_without_a_word_there_is_none_and_the_banner_says_so(start):
    assert "off: commands run as this user" in banner(start(), port=1, token=None)


@pytest.mark.parametrize(
    ("bwrap", "said"),
    [
        ("", "bubblewrap is not installed (apt install bubblewrap)"),
        (NO_NAMESPACES, "No permissions to create new namespace"),
    ],
)
def test_auto_says_what_it_found_and_goes_on_without(start, caplog, bwrap, said):
    with caplog.at_level(logging.WARNING, "opencode"):
        services = start(bwrap=bwrap, sandbox="auto")

    assert said in banner(services, port=1, token=None)
    assert said in caplog.text


@pytest.mark.parametrize("bwrap", ["", NO_NAMESPACES])
def test_require_does_not_start_without_and_names_the_fix(start, bwrap):
    with pytest.raises(SettingsError) as refused:
        start(bwrap=bwrap, sandbox="require")

    assert "OPENCODE_SANDBOX=require, but bubblewrap is" in str(refused.value)
    assert "OPENCODE_SANDBOX=auto" in str(refused.value)


def test_require_does_not_start_where_sessions_would_be_around_the_servers_data(start, make_app):
    with pytest.raises(SettingsError, match="Set OPENCODE_DATA_DIR to a folder elsewhere"):
        start(bwrap="installed", sandbox="require", data_dir=make_app.work / "data")


def test_without_require_that_is_a_warning(start, make_app, caplog):
    with caplog.at_level(logging.WARNING, "opencode"):
        start(data_dir=make_app.work / "data")

    assert "lies where sessions work" in caplog.text


def test_where_it_works_the_banner_says_with_what(start):
    works, said = found()
    if not works:
        pytest.skip(said)

    for mode in ("auto", "require"):
        text = banner(start(bwrap="installed", sandbox=mode, sandbox_network=False), port=1, token=None)
        assert "sandbox    bubblewrap" in text
        assert "without network" in text


def test_several_owners_may_share_a_server_whose_commands_are_confined():
    tokens = ("anna:a-secret", "bert:b-secret")

    for mode in ("off", "auto"):
        with pytest.raises(SettingsError, match="OPENCODE_SANDBOX=require"):
            tokens_of(Settings(auth_tokens=tokens, sandbox=mode))
    assert len(tokens_of(Settings(auth_tokens=tokens, sandbox="require"))) == 2


def test_the_banner_shows_no_password(make_app, tmp_path):
    services = make_app().extensions["opencode"]
    settings = services.settings.model_copy(
        update={"database_url": "postgresql://ann:hidden@db:5432/x?password=hidden"}
    )
    object.__setattr__(services, "settings", settings)

    text = banner(services, port=1, token=None)

    assert "data       postgresql://db:5432/x\n" in text
    assert "hidden" not in text
