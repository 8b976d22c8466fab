"""Nothing that a model, a file or a person says can run, load, or look like something else."""

import json
import re

from playwright.sync_api import expect

EVIL = """\
<script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 2"> <svg onload="window.hacked = 3"></svg>
<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe>
<a href="javascript:window.hacked=5">click</a> [md](javascript:window.hacked=6) <javascript:window.hacked=7>
[data](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==) ![image](https://evil.example/pixel.png)
[logout](/api/logout) [code](/#code=stolen) [fine](https://example.com/)
<style>body { display: none }</style> <form action="https://evil.example"><input name=q></form>

```html
<script>window.hacked = 8</script>
```

```"><script>window.hacked = 9</script>
code
```
"""
UNSEEN = "user\u202egnp.exe\u2066 zero\u200bwidth \ufeff \x1b[2J\x1b[31mred\x1b[0m \x07"
LINE = 5_000_000


def check_nothing_ran(page):
    assert page.evaluate("window.hacked") is None
    assert (
        page.locator(
            "#transcript :is(script, img, iframe, style, form, input, object, embed, svg:not(button svg))"
        ).count()
        == 0
    )
    for link in page.locator("#transcript a").all():
        assert re.match(r"(https?:|mailto:)", link.get_attribute("href") or "https:"), link.get_attribute("href")
    assert not [said for said in page.said if "Failed to load resource" not in said], page.said


def test_a_hostile_transcript_stays_text(desk, wire, server):
    (server.work / "<img src=x onerror=hacked=10>.txt").write_text(EVIL + UNSEEN)
    command = f"cat '<img src=x onerror=hacked=10>.txt'; printf %s {json.dumps('<script>hacked=11</script>')!r}"
    edit = {"path": "<img src=x onerror=hacked=10>.txt", "old_string": "[fine]", "new_string": "<b onclick=hacked=12>"}
    prompt = wire.script(
        [
            [{"text": EVIL + UNSEEN}, {"reasoning": EVIL}, {"tool": "bash", "params": {"command": command}}],
            [{"tool": "read", "params": {"path": edit["path"]}}],
            [{"tool": "edit", "params": edit}],
            [{"tool": "<img src=x onerror=hacked=13>", "params": {"<b>": EVIL}}],
            [{"text": EVIL}],
        ],
        prompt=EVIL + UNSEEN,
    )
    requested = []
    desk.page.on("request", lambda request: requested.append(request.url))
    desk.page.on("dialog", lambda dialog: dialog.dismiss())
    turn = desk.open().ask(prompt)
    desk.ended()
    for _ in range(2):
        expect(turn.locator(".text.prose")).to_have_count(3)
        for summary in turn.locator("details > summary").all():
            summary.click()
        expect(turn.locator("details.tool .output").first).to_contain_text("window.hacked = 1")
        desk.button("Changes").click()
        expect(desk.page.locator(".changes")).to_contain_text("onclick=hacked=12")
        desk.page.keyboard.press("Escape")
        check_nothing_ran(desk.page)
        text = turn.inner_text()
        assert not set(text) & set("\u202e\u2066\u200b\ufeff\x1b\x07"), "what is not seen is shown"
        assert "⟨U+202E⟩" in turn.locator(".bubble").inner_text()
        expect(turn.locator(".prose", has_text="zero⟨U+200B⟩width")).to_have_count(1)
        assert "⟨U+202E⟩" in turn.locator(".output").first.inner_text()
        desk.page.reload()
        expect(desk.turns).to_have_count(1)
        turn = desk.turns.first
    assert {url.split("/")[2] for url in requested if not url.startswith("data:")} == {desk.address.split("/")[2]}


def test_a_command_that_hides_something_is_shown_whole_where_a_yes_is_asked_for(desk, client, wire):
    command = f"echo harmless # \u202e{'x' * 30_000}\u200b; echo the end"
    prompt = wire.script([[{"tool": "bash", "params": {"command": command}}], [{"text": "no"}]])
    desk.open(client.session(permission={"bash": "ask"})).ask(prompt)

    shown = desk.page.get_by_role("group", name="May bash do this?").locator(".request")
    expect(shown).to_have_text(f"$ {command}".replace("\u202e", "⟨U+202E⟩").replace("\u200b", "⟨U+200B⟩"))
    desk.button("Reject").click()
    desk.ended()


def test_a_line_of_five_megabytes_neither_freezes_the_page_nor_fills_it(desk, wire):
    prompt = wire.script([[{"text": "x" * 100_000, "repeat": LINE // 100_000}]])
    turn = desk.open().ask(prompt)
    desk.ended()
    for _ in range(2):
        more = turn.get_by_role("button", name=re.compile(r"Show more \(5\.0 MB left\)"))
        expect(more).to_be_visible()
        assert desk.page.evaluate("document.body.textContent.length") < 100_000
        desk.prompt.press_sequentially("still typing")
        expect(desk.prompt).to_have_value("still typing")
        more.click()
        expect(turn.get_by_role("button", name=re.compile(r"Show more \(4\.8 MB left\)"))).to_be_visible()
        desk.prompt.fill("")
        desk.page.reload()
        turn = desk.turns.first
    assert desk.page.locator("#scroller").evaluate("own => own.scrollWidth <= own.clientWidth")
