"""Exported documents, read by a parser that nobody here wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from opencode.cli.markdown import as_markdown
from opencode.client import Message, SessionDetail, Usage

pytestmark = pytest.mark.once

PARSER = MarkdownIt("commonmark")  # raw HTML goes through, as in the most trusting reader
WORDS = ["<script>", "<!--", "-->", "```", "````", "~~~", "\n", "\n\n", "- ", "  ", "    ", "> ", "#", "`", "![", "](http://x)", "a", "\t", "1. ", "<b", ">", "]: ", "[x]"]  # fmt: skip


def message(content="", role="assistant", parts=(), status="completed"):
    return Message(
        id="msg_1", role=role, content=content, timestamp="2026-11-22T20:42:57Z", turn_id="trn_1", status=status, tokens=1,
        parts=list(parts),
    )  # fmt: skip


def document(*messages, title="A talk"):
    session = SessionDetail(
        id="ses_1", created_at="2026-11-22T20:42:57Z", last_message=None, model=None, resolved_model="demo/guide", tools=[],
        directory="/srv/x", title=title, system=None, permission={}, message_count=len(messages), status="idle",
        usage=Usage(input=5, output=2, cached=0, turn_ms=3), seq=9, messages=[], has_older=False,
    )  # fmt: skip
    return as_markdown(session, list(messages))


def tokens(markdown):
    """All tokens, those within lines included."""
    for token in PARSER.parse(markdown):
        yield token
        yield from token.children or ()


def kinds(markdown):
    return {token.type for token in tokens(markdown)}


def headings(markdown):
    found = PARSER.parse(markdown)
    return [found[n + 1].content for n, token in enumerate(found) if token.type == "heading_open"]


def test_a_talk_reads_as_one():
    parts = [
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "I'll **look**.\n\n```py\nif a < b:\n    pass\n```"},
        {"type": "tool", "tool": "bash", "params": {"command": "ls"}, "result": "a.txt\n"},
        {"type": "text", "content": "half", "status": "interrupted"},
    ]
    markdown = document(message("look", role="user"), message(parts=parts, status="aborted"))

    assert headings(markdown) == ["A talk", "User, 2026-11-22T20:42:57Z", "Assistant, 2026-11-22T20:42:57Z"]
    assert "> I'll **look**." in markdown
    assert "> if a < b:" in markdown  # code is left as it is
    assert '```json\n{\n  "command": "ls"\n}\n```' in markdown
    assert "```\na.txt\n```" in markdown
    assert "*(broken off, and void:)*\n\n> half" in markdown
    assert markdown.endswith("*(aborted)*\n")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a\n\n<!-- hidden -->",
        "![](http://tracker.example/x.png)",
        "- a\n  ```\n<script>alert(1)</script>",
        " ```\n```\n<script>alert(1)</script>",
        "> ```\n<img src=x>",
        "``` `\n<img src=x>",
        "```\n~~~\n```\n<img src=x>",
        "```\n   ```\n<img src=x>",
        "~~~\n~~~ x\n~~~\n<img src=x>",
        "1. ```\n<img src=x>\n```",
    ],
)
def test_no_text_becomes_html_or_loads_an_image(text):
    for markdown in (document(message(text)), document(message(parts=[{"type": "text", "content": text}]))):
        assert kinds(markdown) & {"html_block", "html_inline", "image"} == set()


@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
def test_whatever_is_said_stays_within_its_message(text):
    tool = {"type": "tool", "tool": text, "params": {"a": text}, "result": text}
    markdown = document(message(text), message(parts=[{"type": "text", "content": text}, tool]), title=text)

    assert kinds(markdown) & {"html_block", "html_inline", "image"} == set()
    level_1_and_2 = [token for token in PARSER.parse(markdown) if token.type == "heading_open" and token.level == 0]
    assert len(level_1_and_2) == 3
    results = [token.content for token in tokens(markdown) if token.type == "fence" and token.level == 0]
    assert len(results) == 2
    assert results[1].rstrip("\n") == text.rstrip("\n")


def test_control_characters_are_not_exported():
    markdown = document(
        message("\x1b[2J"), message(parts=[{"type": "tool", "tool": "bash", "params": {}, "result": "\x1b]0;x\x07"}])
    )

    assert "\x1b" not in markdown
    assert "\x07" not in markdown
