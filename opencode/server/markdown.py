"""Markdown to HTML in which nothing can run: a program that `opencode/server/rendering.py` talks to.

A line in, a line out: a JSON list of texts, and the list of what became of them. It is run as a file, by itself, so
that neither a slow text nor the memory of the parsers is the server's. It imports nothing of the package.
"""

import json
import re
import sys

import nh3
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

#: Longer code stays without colours.
_HIGHLIGHTED_CHARS = 50_000
#: What is not seen, or turns around what is: controls, bidi marks (UAX 9), zero-width characters. Joiners may stand,
#: which emoji and some scripts need.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_FORMATTER = HtmlFormatter(nowrap=True)
_TAGS = {
    *("a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s"),
    *("span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}


def visible(text: str) -> str:
    """The text with a sign in place of each character that would hide or reorder others."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def _highlighted(code: str, language: str, _attributes: str) -> str:
    """The inside of a fenced block, with the classes of Pygments; empty where the parser is to escape it."""
    if not language or len(code) > _HIGHLIGHTED_CHARS:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return ""
    return highlight(code, lexer, _FORMATTER)


#: No HTML, and no images: these would be asked for elsewhere. What looks like one is a link.
_PARSER = MarkdownIt("commonmark", {"html": False, "highlight": _highlighted})
_PARSER.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])


def render(text: str) -> str:
    """HTML of the tags above. Links lead to http, https and mailto addresses only, and never to this server."""
    return nh3.clean(
        _PARSER.render(visible(text)),
        tags=_TAGS,
        attributes={"a": {"href"}, "ol": {"start"}, "*": set()},
        allowed_classes={"span": {name for name in STANDARD_TYPES.values() if name}},
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"tabindex": "0"}},
    )


def main() -> None:
    for line in sys.stdin.buffer:
        answer = json.dumps([render(text) for text in json.loads(line)])
        sys.stdout.buffer.write(answer.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
