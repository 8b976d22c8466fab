"""What the server says when it stands."""

import shlex

import pytest

from opencode.server.banner import banner
from opencode.version import VERSION


def said(make_app, *, port: int = 3000, token: str | None = None, **settings) -> str:
    return banner(make_app(**settings).extensions["opencode"], port=port, token=token)


def test_it_says_address_directory_model_with_the_reason_and_the_store(make_app):
    text = said(make_app, port=4321)

    assert VERSION in text
    assert "http://localhost:4321" in text
    assert f"directory  {make_app.work}" in text
    assert "scripted/script (OPENCODE_MODEL or --model names it)" in text
    assert "this machine only" in text
    assert "OPENCODE_MODEL=" in text


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:3000"),
        ("127.0.0.1", "http://localhost:3000"),
        ("::1", "http://localhost:3000"),
        ("0.0.0.0", "http://localhost:3000"),
        ("::", "http://localhost:3000"),
        ("127.0.0.2", "http://127.0.0.2:3000"),
        ("192.168.1.5", "http://192.168.1.5:3000"),
        ("fd00::5", "http://[fd00::5]:3000"),
        ("box.example", "http://box.example:3000"),
    ],
)
def test_the_address_is_one_that_can_be_opened(make_app, host, url):
    assert f"address    {url}\n" in said(make_app, host=host)


def test_the_public_address_goes_before_the_listeners(make_app):
    text = said(make_app, host="0.0.0.0", public_url="https://box.example")

    assert "address    https://box.example\n" in text
    assert "localhost:3000" not in text


def test_a_new_token_is_shown_once_it_is_made_and_a_configured_one_never(make_app):
    assert "new-secret" in said(make_app, auth=True, token="new-secret")
    text = said(make_app, auth_tokens=("anna:configured-secret",))
    assert "configured-secret" not in text
    assert "OPENCODE_AUTH_TOKENS" in text
    assert "Bearer <token>" in text


def test_the_first_turn_can_be_copied_into_a_shell(make_app):
    text = said(make_app, auth=True, token="new-secret")

    lines = [line.strip() for line in text.splitlines() if "curl" in line]
    assert len(lines) == 2
    for line in lines:
        assert "Authorization: Bearer new-secret" in line
        shlex.split(line)


def test_the_guide_says_that_it_is_no_ai_and_how_to_get_one(make_app):
    from opencode.provider.demo import Demo
    from opencode.wiring import build_services

    services = build_services(make_app.settings(model=None), {}, providers={"demo": Demo(hint="")})
    try:
        text = banner(services, port=3000, token=None)
    finally:
        services.stop(0.0)

    assert "demo/guide" in text
    assert "no AI" in text
    assert "ANTHROPIC_API_KEY" in text
