"""Opening the page where somebody sits in front of the server."""

import threading
import webbrowser
from collections.abc import Mapping
from html import escape
from pathlib import Path

_WAY = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={link}">
<title>OpenCode</title><p><a href="{link}">Sign in</a></p>
"""


def has_desktop(environ: Mapping[str, str], platform: str) -> bool:
    """Whether a browser that opens here is seen by who started the server: a desktop, and no remote shell on it."""
    is_near = not environ.get("SSH_CONNECTION")
    return is_near and (platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")))


def open_page(url: str, code: str | None, folder: Path) -> None:
    """Open the page in the user's browser (`BROWSER` names another); with `code`, signed in.

    A command line can be read by all users of the machine. So the code goes by a file in `folder`, for this user alone.
    """
    target = url if code is None else _way(folder / "sign-in.html", f"{url}/#code={code}")
    # A browser may hold its caller up.
    threading.Thread(target=webbrowser.open, args=(target,), name="open-page", daemon=True).start()


def _way(file: Path, link: str) -> str:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(_WAY.format(link=escape(link)), encoding="utf-8")
    return file.absolute().as_uri()
