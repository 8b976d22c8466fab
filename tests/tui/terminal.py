"""The terminal interface without a terminal: Textual's pilot types, and what is on the screen is read."""

import asyncio
import time
from contextlib import asynccontextmanager

from opencode.tui.app import AttachApp
from opencode.tui.connection import Connection

DEADLINE_S = 60.0


class Terminal:
    """One `opencode attach`."""

    def __init__(self, app, pilot):
        self.app = app
        self.pilot = pilot

    def screen(self):
        """The lines as they are drawn."""
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    async def until(self, condition, what=""):
        deadline = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self.screen()}"
            await self.pilot.pause(0.05)
        return found

    async def shows(self, *texts):
        await self.until(lambda: all(text in self.screen() for text in texts), texts)

    async def shows_no(self, text):
        await self.until(lambda: text not in self.screen(), f"{text} to go")

    async def type(self, text):
        await self.pilot.press(*[_KEYS.get(char, char) for char in text])

    async def say(self, text):
        await self.type(text)
        await self.shows(text[:20])
        await self.pilot.press("enter")

    async def is_told(self, text):
        """By a notice, which goes away by itself: what was said last is remembered."""
        await self.until(lambda: text in self.app.last_notice, text)

    async def is_live(self):
        await self.shows("● live at")


_KEYS = {" ": "space", "\n": "alt+enter"}


class Terminals:
    """Attaches to one screen of one server."""

    def __init__(self, server, name, *, token=None):
        self.server = server
        self.name = name
        self.token = token

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.port}"

    @asynccontextmanager
    async def attached(self, **options):
        async with Connection(self.url, self.token) as connection:
            app = AttachApp(connection, name=self.name, **options)
            async with app.run_test(size=(100, 40)) as pilot:
                terminal = Terminal(app, pilot)
                await terminal.is_live()
                yield terminal

    def play(self, story, **options):
        """Run a story with one terminal."""

        async def run():
            async with self.attached(**options) as terminal:
                await story(terminal)

        asyncio.run(run())

    def play_two(self, story):
        """Run a story with two terminals at the same screen."""

        async def run():
            async with self.attached() as first, self.attached() as second:
                await story(first, second)

        asyncio.run(run())
