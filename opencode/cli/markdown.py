"""A session as a Markdown document.

What people, models and tools said cannot become structure of the document, or markup that a reader's program acts on:
messages stand in block quotes without raw HTML and images, tools' texts in fences longer than any within.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from opencode.cli.printable import one_line, printable
from opencode.client import Message, SessionDetail

#: CommonMark 0.31, 4.5. Only fences at the margin are taken for such: no list or quote can hold them.
_FENCE = re.compile(r"(`{3,})[^`]*|(~{3,}).*")
_FENCE_SOMEWHERE = re.compile(r"[ \t>*+\-0-9.)]*(?:`{3,}|~{3,})")
_TITLE_CHARS = 120


def as_markdown(session: SessionDetail, messages: list[Message]) -> str:
    """The document."""
    lines = [f"# {_escaped(one_line(session.title or session.id, _TITLE_CHARS))}", ""]
    facts = {"Session": session.id, "Created": session.created_at, "Model": session.resolved_model}
    facts |= {"Directory": session.directory, "Tokens": f"{session.usage.input} in, {session.usage.output} out"}
    lines += [f"- {name}: {_code(value)}" for name, value in facts.items()]
    for message in messages:
        lines += ["", f"## {_escaped(message.role.capitalize())}, {_escaped(message.timestamp)}"]
        for block in _blocks(message):
            lines += ["", *block]
    return "\n".join(lines) + "\n"


def _blocks(message: Message) -> Iterator[list[str]]:
    if not message.parts:
        yield _quoted(message.content)
    for part in message.parts:
        match part.get("type"):
            case "text" if part.get("status") == "interrupted":
                yield ["*(broken off, and void:)*", "", *_quoted(str(part.get("content", "")))]
            case "text":
                yield _quoted(str(part.get("content", "")))
            case "reasoning":
                yield ["*Reasoning:*", "", *_quoted(str(part.get("content", "")))]
            case "tool":
                yield _tool(part)
    if message.status not in {"completed", "running"}:
        yield [f"*({_escaped(message.status)})*"]


def _tool(part: Mapping[str, Any]) -> list[str]:
    name = _code(one_line(str(part.get("tool", "")), _TITLE_CHARS))
    params = json.dumps(part.get("params", {}), ensure_ascii=False, indent=2)
    lines = [f"**Tool** {name}", "", *_fenced(params, "json")]
    if part.get("result") is not None:
        lines += ["", *_fenced(str(part["result"]))]
    return lines


def _quoted(text: str) -> list[str]:
    return [f"> {line}".rstrip() for line in _without_markup(printable(text).strip("\n"))]


def _without_markup(text: str) -> Iterator[str]:
    """The lines, where they are not surely within a fence, without what begins HTML or loads an image."""
    fence = ""
    sure = True
    for line in text.split("\n"):
        if fence:
            yield line
            stripped = line.strip(" ")
            if set(stripped) == {fence[0]} and len(stripped) >= len(fence):
                fence = ""
            continue
        opening = _FENCE.fullmatch(line) if sure else None
        if opening is not None:
            fence = opening[1] or opening[2]
            yield line
            continue
        # A fence elsewhere may belong to a list: where it ends is then a matter of indentation. From here on
        # everything is escaped, which at worst looks odd within code.
        sure = sure and _FENCE_SOMEWHERE.match(line) is None
        yield line.replace("<", "&lt;").replace("![", "!&#91;")


def _fenced(text: str, language: str = "") -> list[str]:
    text = printable(text).rstrip("\n")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.split("\n"), fence]


def _code(text: str) -> str:
    """A code span that the text cannot leave (CommonMark 6.1)."""
    text = one_line(text, 4096)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    return f"{ticks} {text} {ticks}" if text.startswith("`") or text.endswith("`") else f"{ticks}{text}{ticks}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>&!#|~])", r"\\\1", text)
