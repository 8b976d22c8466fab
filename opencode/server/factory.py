"""The application factory."""

import logging
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from flask import Flask, Response, g, request
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix

from opencode.server import api, errors, health, logs, messages, openapi, sign_in, tui
from opencode.server.access import Caller, Guard, check_scope
from opencode.server.answers import json_response
from opencode.server.auth_handler import AuthHandler
from opencode.server.authentication import Authenticator
from opencode.server.credentials import Credentials
from opencode.server.headers import protect
from opencode.server.limits import Limits
from opencode.server.routes import Contract, route
from opencode.settings import Settings, environment, load
from opencode.wiring import Services, build_services

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_EXPOSED = ["X-Request-Id", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]


def create_app(
    settings: Settings | None = None,
    services: Services | None = None,
    *,
    auth_handler: AuthHandler | None = None,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Make the WSGI app. Without arguments it is set up from the environment, as gunicorn and `flask run` need it.

    `auth_handler` lets in tokens beside those of the settings, and turns authentication on unless these say `off`.
    `clock`, in seconds since the epoch, tells how old tickets, cookies and codes are.

    Raises:
        SettingsError: a setting is malformed or contradicts another.
        StoreError: the store cannot be opened.
    """
    if services is not None:
        return _assemble(services, auth_handler, clock)
    if settings is None:
        settings, warnings = load(environment())
        logs.set_up(settings)
        for warning in warnings:
            log.warning(warning)
    services = build_services(settings, environment())
    try:
        return _assemble(services, auth_handler, clock)
    except BaseException:
        services.stop(0.0)  # nobody else has hold of them, and of the data folder's lock
        raise


def _assemble(services: Services, auth_handler: AuthHandler | None, clock: Callable[[], float]) -> Flask:
    if auth_handler is not None and services.settings.auth is None:
        services = replace(services, settings=services.settings.model_copy(update={"auth": True}))
    settings = services.settings
    no_token = settings.auth_on and not settings.auth_tokens and auth_handler is None
    token = secrets.token_urlsafe(24) if no_token else None
    guard = Guard(settings)
    authenticator = Authenticator(settings, Credentials(services, clock=clock), new_token=token, handler=auth_handler)
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a path is what it is: no redirects, and none to where a Host header points
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    app.config.update(MAX_CONTENT_LENGTH=settings.max_body_bytes, NEW_TOKEN=token, STARTED=time.monotonic())
    app.extensions["opencode"] = services
    app.extensions["opencode-authenticator"] = authenticator
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign] # Flask's own way
    app.before_request(_name_request)
    app.after_request(_finish)
    _guard_requests(app, guard, authenticator)
    limits = Limits(app, settings)
    app.extensions["opencode-limits"] = limits
    _register(app, limits)
    if settings.cors_origins:
        _allow_origins(app, settings)
    logs.redact_tickets()
    if "FLASK_RUN_FROM_CLI" in environment():
        _say_how_to_sign_in(authenticator, token)
    return app


def _say_how_to_sign_in(authenticator: Authenticator, token: str | None) -> None:
    """For `flask run`; under gunicorn the banner says it. Not through the log: logs are kept and passed on."""
    code = authenticator.link_code()
    if token is not None:
        sys.stderr.write(f"\nThe token of this server: {token}\nOPENCODE_AUTH_TOKENS sets lasting ones.\n")
    if code is not None:
        sys.stderr.write(f"To sign in a browser, once and within 10 minutes: <the address below>/#code={code}\n\n")


def _register(app: Flask, limits: Limits) -> None:
    errors.register(app, limits)
    app.register_blueprint(api.api)
    app.register_blueprint(messages.messages)
    app.register_blueprint(tui.tui)
    app.register_blueprint(sign_in.sign_in)
    app.register_blueprint(health.health)
    limits.limiter.exempt(health.health)

    @app.get("/openapi.json")
    @route(summary="The API document", scope=None)
    def api_document() -> Response:
        return json_response(openapi.document(app))


def _name_request() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    g.started = time.perf_counter()


def _guard_requests(app: Flask, guard: Guard, authenticator: Authenticator) -> None:
    @app.before_request
    def check_access() -> None:
        """Every request passes here, upgrades too, whatever started the server; only its health is open to all."""
        contract: Contract | None = getattr(app.view_functions.get(request.endpoint or ""), "contract", None)
        g.caller = Caller("anonymous", frozenset())
        if request.blueprint == "health":
            return
        original = request.environ.get("werkzeug.proxy_fix.orig", request.environ)
        guard.check_peer(original.get("REMOTE_ADDR"), request.headers)
        guard.check_host(request.host)
        guard.check_origin(
            request.headers,
            scheme=request.scheme,
            host=request.host,
            is_page=contract is not None and contract.page and request.method in {"GET", "HEAD"},
            is_open=request.endpoint == "api_document",
        )
        g.own_origin = guard.is_own_origin(request.headers.get("Origin"), scheme=request.scheme, host=request.host)
        if request.routing_exception is not None:
            app.extensions["opencode-limits"].hit_unrouted()
            raise request.routing_exception
        if request.method == "OPTIONS" or (contract is not None and contract.scope is None):
            return
        g.caller = authenticator.caller(sign_in.shown())
        check_scope(g.caller, contract.scope if contract is not None and contract.scope is not None else "write")


def _allow_origins(app: Flask, settings: Settings) -> None:
    everywhere = settings.auth_on or "*" not in settings.cors_origins
    if not everywhere:
        log.warning("CORS for every origin, without a token, covers /health and /openapi.json only.")
    options: dict[str, Any] = {
        # What holds brackets, as an IPv6 address does, flask-cors takes for a pattern.
        "origins": [f"{re.escape(name)}$" if "[" in name else name for name in settings.cors_origins],
        "methods": list(settings.cors_methods),
        "allow_headers": [*settings.cors_allowed_headers, "Last-Event-ID"],
        "expose_headers": _EXPOSED,
        "supports_credentials": settings.cors_credentials,
    }
    CORS(app, resources={r"/*" if everywhere else r"/(health|openapi\.json).*": options})


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    protect(response)
    taken_ms = (time.perf_counter() - g.started) * 1000
    # Quoted again: a line break in a path must not begin a line of its own.
    log.info("%s %s %s %.1f ms", request.method, quote(request.path), response.status_code, taken_ms)
    return response
