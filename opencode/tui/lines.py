"""Single lines of the screen, made from what is known."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from textual.content import Content

from opencode.tui.connection import Link
from opencode.tui.plain import plain, shortened

_WORST_FIRST = ("offline", "connecting", "catching up", "live")


def link_line(links: Iterable[Link], url: str) -> Content:
    """How the connection stands: as the worst of the streams does."""
    link = min(links, key=lambda own: _WORST_FIRST.index(own.state))
    if link.state == "offline":
        since = time.strftime("%H:%M:%S", time.localtime(link.since))
        return Content.assemble((f"○ offline since {since}, trying again", "$text-error"))
    if link.state == "live":
        came = f" · {link.replayed} missed event{'s' if link.replayed > 1 else ''} replayed" if link.since else ""
        return Content.assemble(("● ", "$success"), (f"live at {url}{came}", "dim"))
    return Content.assemble(("◌ ", "$warning"), (f"{link.state} at {url}", "dim"))


def question(asked: Mapping[str, Any]) -> Content:
    """What is asked for, whole: an answer is for exactly this."""
    params = asked["params"]
    if asked["tool"] == "bash":
        what = str(params.get("command"))
    else:
        what = "\n".join(f"{key}: {value}" for key, value in params.items())
    keys: list[str | tuple[str, str]] = [
        (" y ", "reverse"),
        " once  ",
        (" a ", "reverse"),
        " always  ",
        (" n ", "reverse"),
        " no",
    ]
    return Content.assemble((plain(asked["tool"]), "bold"), " wants to run this:   ", *keys, f"\n{plain(what)}")


def session_label(session: Mapping[str, Any]) -> Content:
    """A session in the list."""
    state = {"running": ("● ", "$success"), "waiting": ("? ", "$warning")}.get(session["status"], ("  ", ""))
    title = shortened(session["title"], 70) or "untitled"
    count = session["message_count"]
    when = str(session["last_message"] or session["created_at"])[:16].replace("T", " ")
    return Content.assemble(state, title, (f"  {count} messages · {when}", "dim"))


def model_label(model: Mapping[str, Any]) -> Content:
    """A model in the list, and what it lacks."""
    lack = f"  {shortened(model['missing'], 80)}" if model["missing"] else ""
    return Content.assemble(shortened(model["id"], 60), (lack, "dim"))
