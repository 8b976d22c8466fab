"""The conversation, as widgets. What others wrote is text here and never markup, but for the model's Markdown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Markdown, Static

from opencode.tui.plain import plain, shortened

if TYPE_CHECKING:
    from textual.widgets.markdown import MarkdownStream

#: Of a tool's output the newest so many characters are kept, and so many lines shown while it runs folded.
_OUTPUT_CHARS = 50_000
_PREVIEW_LINES = 5
#: Blocks that stay on the screen; older ones are dropped from it, not from the session.
_BLOCKS = 400
_SIGNS = {
    "running": ("●", "$warning"),
    "waits": ("?", "$warning"),
    "done": ("✓", "$success"),
    "failed": ("✗", "$error"),
}


class Block(Static):
    """Plain text."""

    def __init__(self, text: str, classes: str) -> None:
        super().__init__(Content(plain(text)), markup=False, classes=classes)


class ToolBlock(Static):
    """A tool call: its head, and its output, folded; a click unfolds it."""

    def __init__(self, tool: str, params: Mapping[str, Any]) -> None:
        super().__init__(markup=False, classes="tool")
        self._tool = tool
        self._what = _summary(params)
        self._output = ""
        self._dropped = False
        self.state = "running"
        self.unfolded = False

    def on_mount(self) -> None:
        self._draw()

    def wait(self, *, waits: bool) -> None:
        """A person is asked whether it may run, or has answered."""
        self.state = "waits" if waits else "running"
        self._draw()

    def add(self, content: str) -> None:
        """Live output."""
        self._set(self._output + plain(content))

    def end(self, result: str, *, is_error: bool) -> None:
        self.state = "failed" if is_error else "done"
        self._set(plain(result))

    def _set(self, output: str) -> None:
        self._dropped = self._dropped or len(output) > _OUTPUT_CHARS
        self._output = output[-_OUTPUT_CHARS:]
        self._draw()

    def unfold(self, *, unfolded: bool) -> None:
        self.unfolded = unfolded
        self._draw()

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.unfold(unfolded=not self.unfolded)

    def _draw(self) -> None:
        sign, style = _SIGNS[self.state]
        lines = self._output.rstrip("\n").split("\n") if self._output.strip() else []
        fold = "▾" if self.unfolded else "▸"
        head: list[str | tuple[str, str]] = [(f"{fold} {sign} ", style), (f"{plain(self._tool)} ", "bold"), self._what]
        if self.state == "running":
            head.append(("  running", "dim"))
        elif self.state == "waits":
            head.append(("  waits for your answer", "dim"))
        elif not self.unfolded and lines:
            head.append((f"  {len(lines)} line{'s' if len(lines) > 1 else ''}", "dim"))
        shown = lines if self.unfolded else lines[-_PREVIEW_LINES:] if self.state == "running" else []
        if self.unfolded and self._dropped:
            shown = ["… (the beginning is not kept here)", *shown]
        self.update(Content.assemble(*head, *((f"\n  {line}", "dim") for line in shown)))


def _summary(params: Mapping[str, Any]) -> str:
    for name in ("command", "path", "pattern"):
        if isinstance(params.get(name), str):
            return shortened(params[name], 200)
    return shortened(" ".join(f"{name}={value}" for name, value in params.items()), 200)


class Transcript(VerticalScroll, can_focus=False):
    """The messages of one session; it stays at its end until somebody scrolls up."""

    DEFAULT_CSS = """
    Transcript { padding: 0 1; scrollbar-size-vertical: 1; }
    Transcript > * { height: auto; margin: 0 0 1 0; }
    Transcript .user { border-left: thick $accent; padding: 0 1; background: $boost; }
    Transcript .reasoning { color: $text-muted; text-style: italic; padding: 0 2; }
    Transcript .tool { border-left: thick $primary-darken-2; padding: 0 1; color: $text; }
    Transcript .error { border-left: thick $error; padding: 0 1; color: $text-error; }
    Transcript .note { color: $text-muted; padding: 0 2; }
    Transcript Markdown { padding: 0 2; background: transparent; }
    Transcript Markdown > *:last-child { margin-bottom: 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._tools: dict[str, ToolBlock] = {}
        self._unfolded = False
        self._kind = ""
        self._stream: MarkdownStream | None = None
        self._reasoning = ""
        #: What is streamed, by the number of its first event: a later `step` may void it.
        self._streamed: list[tuple[int, Widget]] = []

    def compose(self) -> ComposeResult:
        yield from ()

    def on_mount(self) -> None:
        self.anchor()

    async def clear(self) -> None:
        await self.end_block()
        self._tools.clear()
        self._streamed.clear()
        await self.remove_children()
        self.anchor()

    async def _put(self, block: Widget) -> None:
        await self.mount(block)
        for old in self.children[: max(0, len(self.children) - _BLOCKS)]:
            await old.remove()

    async def add(self, text: str, kind: str) -> None:
        """A block of plain text: `user`, `error` or `note`."""
        await self.end_block()
        await self._put(Block(text, kind))

    async def add_text(self, content: str, seq: int) -> None:
        """A piece of the answer, which is Markdown."""
        if self._kind != "text" or self._stream is None:
            await self.end_block()
            # A link in an answer opens nothing: it may lead anywhere.
            block = Markdown(open_links=False)
            await self._put(block)
            self._streamed.append((seq, block))
            self._kind, self._stream = "text", Markdown.get_stream(block)
        await self._stream.write(plain(content))

    async def add_reasoning(self, content: str, seq: int) -> None:
        """A piece of the model's reasoning."""
        if self._kind != "reasoning":
            await self.end_block()
            block = Block("", "reasoning")
            await self._put(block)
            self._streamed.append((seq, block))
            self._kind, self._reasoning = "reasoning", ""
        self._reasoning += plain(content)
        block_now = self._streamed[-1][1]
        if isinstance(block_now, Block):
            block_now.update(Content(self._reasoning.strip()))

    async def end_block(self) -> None:
        """What comes next begins a new block."""
        stream, self._stream, self._kind = self._stream, None, ""
        if stream is not None:
            await stream.stop()

    async def void(self, discards_from: int) -> None:
        """Take off what was streamed from this event on."""
        await self.end_block()
        for seq, block in self._streamed:
            if seq >= discards_from:
                await block.remove()
        self._streamed = [(seq, block) for seq, block in self._streamed if seq < discards_from]

    async def call(self, call_id: str, tool: str, params: Mapping[str, Any]) -> None:
        """A tool call begins."""
        await self.end_block()
        block = self._tools[call_id] = ToolBlock(tool, params)
        block.unfolded = self._unfolded
        await self._put(block)

    def wait(self, call_id: str, *, waits: bool) -> None:
        """A person is asked about a call, or has answered."""
        if call_id in self._tools:
            self._tools[call_id].wait(waits=waits)

    def output(self, call_id: str, content: str) -> None:
        """Live output of a call."""
        if call_id in self._tools:
            self._tools[call_id].add(content)

    def result(self, call_id: str, result: str, *, is_error: bool) -> None:
        """A call has ended."""
        if call_id in self._tools:
            self._tools[call_id].end(result, is_error=is_error)

    def toggle_tools(self) -> None:
        """Unfold all output, or fold it."""
        self._unfolded = not self._unfolded
        for block in self._tools.values():
            block.unfold(unfolded=self._unfolded)
