"""What people do with the page, in their words."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect


class Desk:
    """`page` at the server's `address`."""

    def __init__(self, page, address):
        self.page = page
        self.address = address
        expect.set_options(timeout=30_000)

    def open(self, session=None):
        self.page.goto(f"{self.address}/#/s/{session}" if session else f"{self.address}/")
        if session:
            expect(self.page.locator("#connection")).to_have_text("Live")
        return self

    @property
    def prompt(self):
        return self.page.get_by_role("textbox", name="Your request")

    def ask(self, text):
        """Send a request; its turn is there when this returns."""
        before = self.turns.count()
        self.prompt.fill(text)
        self.prompt.press("Enter")
        expect(self.turns).to_have_count(before + 1)
        return self.turns.nth(before)

    def session(self):
        """The id of the open session."""
        self.page.wait_for_url("**/#/s/*")
        return self.page.url.rpartition("/")[2]

    @property
    def turns(self):
        return self.page.locator(".turn")

    def ended(self):
        """Wait until no turn runs."""
        expect(self.page.locator(".turn.working")).to_have_count(0)
        expect(self.button("Stop")).to_be_hidden()

    def button(self, name, **options):
        return self.page.get_by_role("button", name=name, **options)

    def tool(self, name):
        """The calls of one tool."""
        return self.page.locator(".call", has=self.page.locator(f".tool-name:text-is('{name}')"))


def serious(page):
    """What axe finds that hinders somebody."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (own["id"], own["impact"], [node["html"][:200] + str(node.get("any", ""))[:300] for node in own["nodes"][:3]])
        for own in found
        if own["impact"] in {"serious", "critical"}
    ]
