"""`/api/ticket`, `/api/login` and `/api/logout`: how browsers come in (API section 8)."""

from typing import cast
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from opencode.errors import Forbidden, InvalidRequest
from opencode.server import schemas
from opencode.server.access import LOCAL_OWNER, SCOPES, Caller
from opencode.server.answers import json_response
from opencode.server.authentication import Authenticator, Shown, refusal
from opencode.server.context import limits, services
from opencode.server.credentials import COOKIE_S, TICKET_S, Claims
from opencode.server.routes import route
from opencode.server.sign_in_schemas import MakeTicket, SignedIn, SignIn, Ticket

sign_in = Blueprint("sign_in", __name__, url_prefix="/api")

_SECURE_COOKIE = "__Host-opencode"


def authenticator() -> Authenticator:
    return cast("Authenticator", current_app.extensions["opencode-authenticator"])


def shown() -> Shown:
    """What the present request shows to be let in."""
    return Shown(
        method=request.method,
        path=request.path,
        host=request.host.lower(),
        authorization=request.headers.get("Authorization"),
        ticket=request.args.get("ticket"),
        cookies=tuple(filter(None, map(request.cookies.get, _cookie_names()))),
        own_origin=g.own_origin,
        reconnects="Last-Event-ID" in request.headers,
        upgrades="Upgrade" in request.headers,
    )


@sign_in.post("/ticket")
@route(
    summary="A ticket for a stream's address",
    body=MakeTicket,
    answer=Ticket,
    scope="read",
)
def make_ticket(body: MakeTicket) -> Response:
    if not _leads_to_a_get(body.path):
        message = "must be the path of a GET of this API, without a query, such as /api/session/ses_1/message"
        raise InvalidRequest(f"path: {message}", details=[{"field": "path", "message": message}])
    claims = Claims(g.caller.token_mark, request.host.lower(), g.caller.sign_in, body.path)
    ticket = authenticator().credentials.ticket(claims)
    return _unstored(Ticket(ticket=ticket, expires_in=TICKET_S))


@sign_in.post("/login")
@route(
    summary="Sign in a browser",
    body=SignIn,
    answer=SignedIn,
    codes=("UNAUTHORIZED",),
    scope=None,
)
def log_in(body: SignIn) -> Response:
    door = authenticator()
    if not door.is_on:
        return _unstored(SignedIn(owner=LOCAL_OWNER, scopes=sorted(SCOPES)))
    found = _who_signs_in(door, body)
    if found is None:
        limits().wrong_token()
        raise refusal("The code was used or its time is over." if body.code else "Unknown token.")
    response = _unstored(SignedIn(owner=found.owner, scopes=sorted(found.scopes)))
    secure = _cookie_is_secure()
    value = door.credentials.cookie(found.token_mark, request.host.lower())
    response.set_cookie(
        _SECURE_COOKIE if secure else _plain_cookie(),
        value,
        max_age=COOKIE_S,
        secure=secure,
        httponly=True,
        samesite="Strict",
    )
    return response


@sign_in.post("/logout")
@route(summary="End the browser's sign-in", answer=schemas.Success, scope="read")
def log_out() -> Response:
    if g.caller.sign_in:
        authenticator().credentials.end(g.caller.sign_in)
    response = _unstored(schemas.Success())
    for name in _cookie_names():
        if name in request.cookies:
            response.delete_cookie(name, secure=name == _SECURE_COOKIE, httponly=True, samesite="Strict")
    return response


def _unstored(answer: Ticket | SignedIn | schemas.Success) -> Response:
    response = json_response(answer.model_dump())
    response.headers["Cache-Control"] = "no-store"
    return response


def _who_signs_in(door: Authenticator, body: SignIn) -> Caller | None:
    """By code or token. A page that CORS allows may call with its token, but signs nobody's browser in."""
    if "Origin" in request.headers and not g.own_origin:
        raise Forbidden("Only a page of this server can sign a browser in. Other pages send their token as Bearer.")
    if body.code is not None:
        return door.by_code(body.code)
    return door.by_token(body.token or "")


def _leads_to_a_get(path: str) -> bool:
    if not path.startswith("/") or path.startswith("//"):  # which the map would forgive
        return False
    routes = current_app.url_map.bind("")
    for websocket in (False, True):
        try:
            routes.match(path, "GET", websocket=websocket)
        except HTTPException:
            continue
        return True
    return False


def _is_https() -> bool:
    """Whether the browser is known to speak https: this hop says so, or it asks for the public address, which is."""
    public = urlsplit(services().settings.public_url or "")
    return request.is_secure or (public.scheme == "https" and public.netloc == request.host.lower())


def _cookie_is_secure() -> bool:
    # Where a platform ends TLS and told nobody, the page that signs in still names its scheme.
    return _is_https() or request.headers.get("Origin", "").lower().startswith("https://")


def _plain_cookie() -> str:
    """By port, since the servers of one machine share its cookies."""
    port = request.host.rpartition(":")[2]
    return f"opencode_{port if port.isascii() and port.isdigit() else 80}"


def _cookie_names() -> tuple[str, ...]:
    """Cookies to look for. On https only the one that no other site and no plain connection could have set."""
    return (_SECURE_COOKIE,) if _is_https() else (_SECURE_COOKIE, _plain_cookie())
