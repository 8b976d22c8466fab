"""The guard before every request, and CORS behind it (API section 8)."""

import logging
import re
from typing import TYPE_CHECKING, Any

from flask import Flask, g, request
from flask_cors import CORS

from opencode.errors import Unauthorized
from opencode.server import sign_in
from opencode.server.access import Caller, Guard, check_scope
from opencode.server.authentication import Authenticator
from opencode.server.reading import check_sizes
from opencode.settings import Settings

if TYPE_CHECKING:
    from opencode.server.routes import Contract

log = logging.getLogger(__name__)

_EXPOSED = ["X-Request-Id", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]


def guard_requests(app: Flask, guard: Guard, authenticator: Authenticator) -> None:
    @app.before_request
    def check_access() -> None:
        """Every request passes here, upgrades too, whatever started the server; only its health is open to all."""
        contract: Contract | None = getattr(app.view_functions.get(request.endpoint or ""), "contract", None)
        g.caller = Caller("anonymous", frozenset())
        if request.blueprint == "health":
            return
        check_sizes(request.environ)
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
            app.extensions["opencode-limits"].count_unrouted()
            raise request.routing_exception
        if request.method == "OPTIONS" or (contract is not None and contract.scope is None):
            return
        shown = sign_in.shown()
        try:
            g.caller = authenticator.caller(shown)
        except Unauthorized:
            if shown.authorization or shown.ticket or shown.cookies:
                app.extensions["opencode-limits"].wrong_token()
            raise
        check_scope(g.caller, contract.scope if contract is not None and contract.scope is not None else "write")


def allow_origins(app: Flask, settings: Settings) -> None:
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
