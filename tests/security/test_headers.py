"""What answers say to browsers."""

import pytest

from opencode.server.routes import route
from tests.security.door import ANNA, TOKENS, bearer, ways
from tests.server.talk import create

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def app(make_lasting_app):
    app = make_lasting_app(auth_tokens=TOKENS)

    @app.get("/page")
    @route(summary="A page", scope=None, page=True)
    def page():
        return app.response_class("<p>hello</p>", content_type="text/html; charset=utf-8")

    return app


def test_a_page_runs_its_own_scripts_only_and_is_framed_by_nobody(app):
    headers = app.test_client().get("/page").headers

    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_every_answer_is_taken_for_what_it_says(app):
    """Errors too: what was sent in comes back as JSON and never as a page."""
    client = app.test_client()
    session_id = create(client, bearer(ANNA))
    answers = [way.ask(client, session_id, Authorization=f"Bearer {ANNA}") for way in ways(app)]
    answers += [client.get("/<script>alert(1)</script>"), client.open("/api/sessions", method="BREW")]
    for response in answers:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        if response.status_code >= 400:
            assert response.mimetype == "application/json"
            assert "Content-Security-Policy" not in response.headers
