"""`/docs` in a real browser: readable, made of what this server has, and its try-it really sends."""

import json

import pytest

from tests.browser.desk import serious
from tests.live.server import Server, until

TOKEN = "a token of sixteen characters or more"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    with Server.serve(tmp_path_factory.mktemp("docs"), OPENCODE_RATE_LIMIT="off") as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with Server.serve(tmp_path_factory.mktemp("guarded"), OPENCODE_AUTH_TOKENS=f"ann:{TOKEN}") as server:
        yield server


@pytest.fixture
def docs(page, local):
    """The page, with the addresses of all that it loaded in `page.loaded`."""
    page.loaded = []
    page.on("request", lambda request: page.loaded.append(request.url))
    return opened(page, local)


def opened(page, server):
    page.goto(f"http://localhost:{server.port}/docs")
    page.wait_for_selector("main[aria-busy=false]")
    return page


def operation(page, method, path):
    """The opened section of an operation."""
    section = page.locator("section").filter(
        has=page.locator(f".method.{method}"), has_text=path
    ).filter(has=page.get_by_text(path, exact=True))  # fmt: skip
    if section.locator("> .body").is_hidden():
        section.locator("h3 > button").click()
    return section


def send(section):
    section.get_by_role("button", name="Send").click()
    return section.locator(".answer")


def settled(answer, word):
    until(lambda: word in answer.inner_text(), 60, lambda: f"{word} in {answer.inner_text()}")
    return answer.inner_text()


def test_every_operation_is_there_and_nothing_comes_from_elsewhere(docs, local):
    described = docs.evaluate("fetch('/openapi.json').then(answer => answer.json())")
    operations = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }  # fmt: skip

    shown = docs.eval_on_selector_all(
        "section",
        "all => all.map(one => [one.querySelector('.method').textContent, one.querySelector('.path').textContent])",
    )

    assert {tuple(own) for own in shown} == operations
    assert {url.split("/")[2] for url in docs.loaded if not url.startswith("data:")} == {f"localhost:{local.port}"}
    assert docs.said == []
    for section in docs.locator("section h3 > button").all()[:6]:
        section.click()
    assert docs.said == [], "nothing that the page does is against its policy"


def test_the_page_tells_codes_fields_events_and_tools(docs):
    docs.locator("#errors > summary").click()
    text = docs.locator("main").inner_text()
    assert "IDEMPOTENCY_CONFLICT" in text
    section = operation(docs, "post", "/api/session/{session_id}/message")
    for summary in section.locator("details > summary").all():
        if summary.is_visible():
            summary.click()
    text = section.inner_text()
    for word in ("when_busy", "respond-async", "turn_start", "discards_from", "SESSION_BUSY", "event: done", "406"):
        assert word in text, word
    assert docs.get_by_text("old_string", exact=True).count() == 1


def test_a_session_is_created_and_its_turn_shown_as_it_streams(docs):
    answer = settled(send(operation(docs, "post", "/api/session")), "session_id")
    assert "200 " in answer
    session_id = json.loads(answer[answer.index("{") :])["session_id"]

    section = operation(docs, "post", "/api/session/{session_id}/message")
    section.locator("input[name=session_id]").fill(session_id)
    section.locator("textarea").fill('{"content": "run sleep 1 && echo awake"}')
    running = send(section)
    settled(running, "event: tool_call")
    assert "event: done" not in running.inner_text(), "the stream is shown while it comes"
    text = settled(running, "event: done")
    assert "awake" in text
    assert "200 " in text
    running.get_by_text("Headers", exact=True).click()
    assert "content-type: text/event-stream" in running.inner_text()
    until(lambda: section.get_by_role("button", name="Send").is_enabled(), 30, "the form to be free again")

    section.get_by_label("Accept").select_option("application/json")
    section.locator("textarea").fill('{"content": "run pwd"}')
    assert '"role": "assistant"' in settled(send(section), "duration")


def test_an_endless_stream_can_be_stopped(docs):
    session = docs.evaluate(
        "fetch('/api/session', {method: 'POST'}).then(answer => answer.json()).then(body => body.session_id)"
    )
    section = operation(docs, "get", "/api/session/{session_id}/message")
    section.locator("input[name=session_id]").fill(session)
    answer = send(section)
    settled(answer, "retry: 2000")
    section.get_by_role("button", name="Stop").click()

    assert "stopped" in settled(answer, "stopped")
    assert section.get_by_role("button", name="Send").is_enabled()


def test_a_refusal_is_shown_as_it_is(docs):
    section = operation(docs, "post", "/api/session")
    section.locator("textarea").fill('{"surprise": 1}')

    answer = settled(send(section), "INVALID_REQUEST")

    assert "400" in answer
    assert "surprise: unknown field" in answer


def test_what_is_typed_in_stays_text(docs):
    section = operation(docs, "get", "/api/session/{session_id}")
    section.locator("input[name=session_id]").fill("<img src=x onerror=alert(1)>")

    answer = send(section)

    assert "<img src=x onerror=alert(1)>" in settled(answer, "SESSION_NOT_FOUND")
    assert answer.locator("img").count() == 0


def test_the_token_goes_along(page, guarded):
    opened(page, guarded)
    section = operation(page, "get", "/api/sessions")
    assert "UNAUTHORIZED" in settled(send(section), "UNAUTHORIZED")

    page.get_by_label("Token").fill(TOKEN)

    assert '"sessions": []' in settled(send(section), '"sessions"')
    assert TOKEN not in page.url


def test_the_filter_leaves_what_has_the_words(docs):
    docs.get_by_label("Filter").fill("post fork")

    assert docs.locator("section:visible").count() == 1
    assert docs.locator("section:visible .path").inner_text() == "/api/session/{session_id}/fork"


def test_by_keyboard_alone(docs):
    docs.get_by_label("Filter").fill("ready")
    docs.locator("section:visible h3 > button").focus()
    docs.keyboard.press("Enter")
    section = operation(docs, "get", "/health/ready")
    section.get_by_role("button", name="Send").focus()
    docs.keyboard.press("Enter")

    assert "demo/guide" in settled(section.locator(".answer"), '"status": "ready"')


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_fits_a_phone_follows_the_scheme_and_hinders_nobody(page, local, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    opened(page, local)
    operation(page, "post", "/api/session/{session_id}/message")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(paper.split("(")[1].split(",")[0])
    assert (red > 200) is (scheme == "light"), paper
    for summary in page.locator("#errors > summary, section:has(.body:not([hidden])) summary").all():
        if summary.is_visible():
            summary.click()
    assert serious(page) == []
