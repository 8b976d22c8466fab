"""The page's files, and Markdown as HTML, over HTTP."""

import re

import pytest

from opencode.server.markdown import render
from opencode.server.page_files import _STATIC
from opencode.server.rendering import Renderer

FILES = sorted(path for path in _STATIC.iterdir() if path.suffix in {".js", ".html"})


def test_the_page_and_its_files_are_open_to_all_and_say_what_they_are(make_app):
    client = make_app(auth_tokens=("ann:page-token-0123456789",), auth=True).test_client()
    page = client.get("/")

    assert page.status_code == 200
    assert page.mimetype == "text/html"
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        file = client.get(path)
        assert file.status_code == 200, path
        assert file.mimetype in {"text/javascript", "text/css", "image/svg+xml"}
        assert file.headers["X-Content-Type-Options"] == "nosniff"
    assert client.post("/api/render", json={"texts": ["x"]}).status_code == 401


def test_a_file_that_has_not_changed_is_not_sent_again(client):
    first = client.get("/static/main.js")
    again = client.get("/static/main.js", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "../ui.py",
        "..%2fui.py",
        "%2e%2e/ui.py",
        "/etc/passwd",
        "nothing.js",
        "",
        "main.js/x",
        "..%5cui.py",
        "docs",
    ],
)
def test_no_other_file_is_given(client, name):
    answer = client.get(f"/static/{name}")

    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline(file):
    text = file.read_text()

    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"\beval\(|new Function|document\.write|insertAdjacentHTML|outerHTML", text)
    assert not re.search(r"<script>|<style| on\w+=| style=", text) or file.name != "index.html"
    assert text.count("innerHTML") == (1 if file.name == "markdown.js" else 0), "HTML is parsed in one place"


def test_markdown_is_rendered_in_order(client):
    answer = client.post("/api/render", json={"texts": ["**a**", "```python\ndef b(): ...\n```", "| c |\n|-|\n| d |"]})

    bold, code, table = answer.json["html"]
    assert bold == "<p><strong>a</strong></p>\n"
    assert '<span class="k">def</span>' in code
    assert "<td>d</td>" in table


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": ["x"] * 101}, "texts"),
        ({"texts": ["x" * 100_001]}, "texts.0"),
        ({"texts": [1]}, "texts.0"),
        ({"text": "x"}, "texts"),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_name(client, body, field):
    answer = client.post("/api/render", json=body)

    assert answer.status_code == 400
    assert field in {own["field"] for own in answer.json["error"]["details"]}


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "<javascript:alert(1)>",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:x)",
        "[x](//evil.example) [y](/api/logout) [z](#code=1)",
        "![x](https://evil.example/pixel)",
        '[x](https://a.example "onmouseover=alert(1)")',
        '```"><script>alert(1)</script>\nx\n```',
        "```html\n<script>alert(1)</script>\n```",
        '<a href="https://a.example" onclick="alert(1)">x</a>',
        '<div style="position:fixed">x</div>',
    ],
)
def test_nothing_in_it_can_run_or_load(text):
    html = render(text)

    assert not re.search(r"<(?:script|img|iframe|style|div|form|input|svg|object)\b", html)
    attributes = [own for tag in re.findall(r"<\w+ ([^>]*)>", html) for own in re.findall(r'([\w-]+)="([^"]*)"', tag)]
    assert {name for name, _ in attributes} <= {"href", "target", "rel", "class", "tabindex"}
    assert {value for name, value in attributes if name == "href"} <= {
        "https://a.example",
        "https://evil.example/pixel",
    }


def test_what_hides_or_turns_text_is_shown():
    assert render("a\u202eb\u200bc\x1b[2Jd\x00") == "<p>a⟨U+202E⟩b⟨U+200B⟩c⟨U+001B⟩[2Jd⟨U+0000⟩</p>\n"
    assert "👩\u200d💻" in render("👩\u200d💻"), "joiners may stand"


def test_a_text_that_takes_too_long_is_given_up_and_the_next_one_is_rendered():
    renderer = Renderer(limit_s=0.01)
    try:
        assert renderer.render(["[" * 90_000]) == [None]
        renderer = Renderer(limit_s=60)
        assert renderer.render(["*a*"]) == ["<p><em>a</em></p>\n"]
        renderer._process.kill()
        assert renderer.render(["*b*"]) in ([None], ["<p><em>b</em></p>\n"])
        assert renderer.render(["*c*"]) == ["<p><em>c</em></p>\n"]
    finally:
        renderer.close()
