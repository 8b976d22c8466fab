"""What views reach for: the services and limits of the app that serves the request."""

from typing import cast

from flask import current_app, g

from opencode.server.limits import Limits
from opencode.session.service import SessionService
from opencode.wiring import Services


def services() -> Services:
    return cast("Services", current_app.extensions["opencode"])


def sessions() -> SessionService:
    return services().sessions


def limits() -> Limits:
    return cast("Limits", current_app.extensions["opencode-limits"])


def owner() -> str:
    """The owner that the request's token names."""
    return str(g.caller.owner)
