"""The application factory."""

import logging
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from opencode import telemetry
from opencode.server import (
    api,
    docs,
    errors,
    guarding,
    health,
    logs,
    messages,
    monitoring,
    reporting,
    sign_in,
    tui,
    ui,
    ws,
)
from opencode.server.access import Guard, tokens_of
from opencode.server.auth_handler import AuthHandler
from opencode.server.authentication import Authenticator
from opencode.server.credentials import Credentials
from opencode.server.headers import protect
from opencode.server.limits import Limits
from opencode.server.listeners import Listeners
from opencode.server.metrics import Metrics
from opencode.server.middleware import App
from opencode.server.reading import cut_silent_connections
from opencode.server.rendering import Renderer
from opencode.server.routes import route
from opencode.settings import Settings, environment, load
from opencode.undumpable import close_memory
from opencode.wiring import Services, build_services

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
#: Right tokens never wait for wrong ones, so that their length alone keeps guessers out.
_GUESSABLE_CHARS = 16


def create_app(
    settings: Settings | None = None,
    services: Services | None = None,
    *,
    auth_handler: AuthHandler | None = None,
    listeners: Listeners | None = None,
    clock: Callable[[], float] = time.time,
) -> App:
    """Make the WSGI app. Without arguments it is set up from the environment, as gunicorn and `flask run` need it.

    `auth_handler` lets in tokens beside those of the settings, and turns authentication on unless these say `off`.
    `listeners` hear what happens in it. `clock`, in seconds since the epoch, tells how old tickets, cookies and codes
    are.

    Raises:
        SettingsError: a setting is malformed or contradicts another.
        StoreError: the store cannot be opened.
    """
    if services is not None:
        return _assembled(services, auth_handler, listeners, clock)
    if settings is None:
        close_memory()  # before keys are read; gunicorn's master has done so for itself
        settings, warnings = load(environment())
        logs.set_up(settings)
        for warning in warnings:
            log.warning(warning)
    services = build_services(settings, environment())
    try:
        return _assembled(services, auth_handler, listeners, clock)
    except BaseException:
        services.stop(0.0)  # nobody else has hold of them, and of the data folder's lock
        raise


def _assembled(
    services: Services, auth_handler: AuthHandler | None, listeners: Listeners | None, clock: Callable[[], float]
) -> App:
    if auth_handler is not None and services.settings.auth is None:
        services = replace(services, settings=services.settings.model_copy(update={"auth": True}))
    settings = services.settings
    no_token = settings.auth_on and not settings.auth_tokens and auth_handler is None
    token = secrets.token_urlsafe(24) if no_token else None
    if any(len(own.secret) < _GUESSABLE_CHARS for own in tokens_of(settings)):
        log.warning("OPENCODE_AUTH_TOKENS: a token of less than %d characters can be guessed.", _GUESSABLE_CHARS)
    if token is not None and settings.on_postgresql:  # the same in all of them
        token = services.secrets.secret("first-token", token.encode()).decode()
    guard = Guard(settings)
    authenticator = Authenticator(settings, Credentials(services, clock=clock), new_token=token, handler=auth_handler)
    app = _app(services)
    app.config.update(NEW_TOKEN=token, STARTED=time.monotonic())
    app.extensions["opencode-authenticator"] = authenticator
    _hook(app, services, listeners or Listeners())
    guarding.guard_requests(app, guard, authenticator)
    limits = Limits(app, settings)
    app.extensions["opencode-limits"] = limits
    services.sessions.session_creating.connect(limits.count_session)
    _register(app)
    if settings.cors_origins:
        guarding.allow_origins(app, settings)
    if "FLASK_RUN_FROM_CLI" in environment():
        cut_silent_connections(settings.body_timeout_s)
        _say_how_to_sign_in(authenticator, token)
    return app


def _app(services: Services) -> App:
    settings = services.settings
    app = App(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a path is what it is: no redirects, and none to where a Host header points
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    app.config.update(MAX_CONTENT_LENGTH=settings.max_body_bytes, BODY_TIMEOUT_S=settings.body_timeout_s)
    app.extensions["opencode"] = services
    app.extensions["opencode-renderer"] = Renderer()
    app.extensions["opencode-ws"] = ws.OpenTalks(services.log.closing)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign] # Flask's own way
    return app


def _hook(app: App, services: Services, listeners: Listeners) -> None:
    """What happens to every request, and is said of it."""
    app.before_request(_name_request)
    telemetry.set_up(environment())
    metrics = Metrics(environment())
    app.extensions["opencode-metrics"] = metrics
    reporting.register(app, services, listeners, metrics)
    app.after_request(_finish)
    logs.redact_tickets()


def _say_how_to_sign_in(authenticator: Authenticator, token: str | None) -> None:
    """For `flask run`; under gunicorn the banner says it. Not through the log: logs are kept and passed on."""
    code = authenticator.link_code()
    if token is not None:
        sys.stderr.write(f"\nThe token of this server: {token}\nOPENCODE_AUTH_TOKENS sets lasting ones.\n")
    if code is not None:
        sys.stderr.write(f"To sign in a browser, once and within 10 minutes: <the address below>/#code={code}\n\n")


def _register(app: Flask) -> None:
    errors.register(app)
    app.register_blueprint(api.api)
    app.register_blueprint(messages.messages)
    app.register_blueprint(tui.tui)
    app.register_blueprint(sign_in.sign_in)
    app.register_blueprint(ws.ws)
    app.register_blueprint(docs.docs)
    app.register_blueprint(ui.ui)
    app.register_blueprint(health.health)
    app.register_blueprint(monitoring.monitoring)

    @app.get("/openapi.json")
    @route(summary="The API document", scope=None)
    def api_document() -> Response:
        from opencode.server import openapi  # noqa: PLC0415 - not before somebody asks for it

        return openapi.answer(app)


def _name_request() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    protect(response)
    return response
