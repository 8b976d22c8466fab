"""The application factory."""

import logging
import re
import secrets
import sys
import time
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, request
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix

from opencode.server import api, errors, health, logs, messages, monitoring, openapi, reporting, tui
from opencode.server.access import Caller, Guard, check_scope
from opencode.server.answers import json_response
from opencode.server.limits import Limits
from opencode.server.listeners import Listeners
from opencode.server.metrics import Metrics
from opencode.server.middleware import App
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
    listeners: Listeners | None = None,
) -> App:
    """Make the WSGI app. Without arguments it is set up from the environment, as gunicorn and `flask run` need it.

    `listeners` hear what happens in it.

    Raises:
        SettingsError: a setting is malformed or contradicts another.
        StoreError: the store cannot be opened.
    """
    if services is None:
        if settings is None:
            settings, warnings = load(environment())
            logs.set_up(settings)
            for warning in warnings:
                log.warning(warning)
        services = build_services(settings, environment())
    settings = services.settings
    token = secrets.token_urlsafe(24) if settings.auth_on and not settings.auth_tokens else None
    if token is not None and "FLASK_RUN_FROM_CLI" in environment():
        # Under gunicorn the banner says it. Not through the log: logs are kept and passed on.
        sys.stderr.write(f"\nThe token of this server: {token}\nOPENCODE_AUTH_TOKENS sets lasting ones.\n\n")
    guard = Guard(settings, extra_token=token)
    app = App(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a path is what it is: no redirects, and none to where a Host header points
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    app.config.update(MAX_CONTENT_LENGTH=settings.max_body_bytes, NEW_TOKEN=token, STARTED=time.monotonic())
    app.extensions["opencode"] = services
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign] # Flask's own way
    app.before_request(_name_request)
    metrics = Metrics(environment())
    app.extensions["opencode-metrics"] = metrics
    reporting.register(app, services, listeners or Listeners(), metrics)
    app.after_request(_finish)
    _guard_requests(app, guard)
    limits = Limits(app, settings)
    app.extensions["opencode-limits"] = limits
    _register(app, limits)
    if settings.cors_origins:
        _allow_origins(app, settings, guard)
    return app


def _register(app: Flask, limits: Limits) -> None:
    errors.register(app, limits)
    app.register_blueprint(api.api)
    app.register_blueprint(messages.messages)
    app.register_blueprint(tui.tui)
    app.register_blueprint(health.health)
    app.register_blueprint(monitoring.monitoring)
    limits.limiter.exempt(health.health)

    @app.get("/openapi.json")
    @route(summary="The API document", scope=None)
    def api_document() -> Response:
        return json_response(openapi.document(app))


def _name_request() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    g.started = time.perf_counter()


def _guard_requests(app: Flask, guard: Guard) -> None:
    @app.before_request
    def check_access() -> None:
        """Every request passes here, whatever started the server; only the health of the server is open to all."""
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
            is_page=False,
            is_open=contract is not None and contract.scope is None,
        )
        if request.routing_exception is not None:
            app.extensions["opencode-limits"].hit_unrouted()
            raise request.routing_exception
        if request.method == "OPTIONS" or (contract is not None and contract.scope is None):
            return
        g.caller = guard.authenticate(request.headers.get("Authorization"))
        check_scope(g.caller, contract.scope if contract is not None and contract.scope is not None else "write")


def _allow_origins(app: Flask, settings: Settings, guard: Guard) -> None:
    everywhere = guard.auth_on or "*" not in settings.cors_origins
    if not everywhere:
        log.warning("CORS for every origin, without a token, covers /health and /openapi.json only.")
    options: dict[str, Any] = {
        "origins": list(settings.cors_origins),
        "methods": list(settings.cors_methods),
        "allow_headers": [*settings.cors_allowed_headers, "Last-Event-ID"],
        "expose_headers": _EXPOSED,
        "supports_credentials": settings.cors_credentials,
    }
    CORS(app, resources={r"/*" if everywhere else r"/(health|openapi\.json).*": options})


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
