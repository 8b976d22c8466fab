"""The entry point for `gunicorn app:app` and `flask run`."""

from opencode.server.factory import create_app

app = create_app()
