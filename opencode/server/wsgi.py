"""The WSGI app for `opencode serve`; importing it opens the store."""

from opencode.server.factory import create_app

app = create_app()
