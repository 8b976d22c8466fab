"""Who may come in: one guard for every request, whatever started the server (API section 8).

`Guard` asks in this order: peer, Host, Origin. Then, after the router has spoken, come the token
(`opencode/server/authentication.py`) and its scope.
"""

import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from opencode.errors import Forbidden, SettingsError
from opencode.origins import is_address, origin
from opencode.settings import Settings, is_loopback

SCOPES = ("read", "write", "approve")
_NAME = re.compile(r"[a-z0-9_-]{1,32}")
#: What an `Authorization` header can carry as it is.
_TOKEN = re.compile(r"[!-~]([ -~]*[!-~])?")
#: `Sec-Fetch-Site` of what no other site's page sends; a program sends none.
_OUR_SITE = {None, "same-origin", "none"}
#: How the names of headers begin that only a proxy sends.
_FORWARDED = ("forwarded", "x-forwarded-", "x-real-ip", "via", "cf-", "true-client-ip", "x-client-ip")
#: Owner of everything while no token is asked for, and of tokens without a name.
LOCAL_OWNER = "local"
DEFAULT_OWNER = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends the request. `token_mark` stands for the token that let them in, `sign_in` for the cookie's sign-in."""

    owner: str
    scopes: frozenset[str]
    token_mark: str = ""
    sign_in: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    owner: str
    scopes: frozenset[str]
    secret: str


def is_name(text: str) -> bool:
    """Whether an owner can be called so."""
    return _NAME.fullmatch(text) is not None


def parse_tokens(entries: tuple[str, ...]) -> tuple[Token, ...]:
    """Read `token`, `name:token` and `name:scopes:token`.

    Raises:
        SettingsError: an entry is empty, malformed or there twice. The message never shows a token.
    """
    tokens = tuple(_token(entry, number) for number, entry in enumerate(entries, 1))
    if len({token.secret for token in tokens}) != len(tokens):
        raise SettingsError("OPENCODE_AUTH_TOKENS holds the same token twice: give each one of its own.")
    return tokens


def tokens_of(settings: Settings) -> tuple[Token, ...]:
    """The configured tokens.

    Raises:
        SettingsError: see `parse_tokens`; or they name several owners, who could reach one another's files by `bash`.
    """
    tokens = parse_tokens(settings.auth_tokens)
    owners = sorted({token.owner for token in tokens})
    if len(owners) > 1 and not may_be_several(settings):
        raise SettingsError(
            f"The tokens name several owners ({', '.join(owners)}), and the `bash` of one reaches the files of all."
            " OPENCODE_SANDBOX=require confines it; where they trust one another set OPENCODE_SHARED_SHELL=on; else"
            " start a server for each, under a user of its own."
        )
    return tokens


def check_access(settings: Settings) -> None:
    """Refuse what no server may be started with.

    Raises:
        SettingsError: see `tokens_of`; or every page could call with its visitor's cookies.
    """
    tokens_of(settings)
    if settings.cors_credentials and "*" in settings.cors_origins:
        raise SettingsError(
            "OPENCODE_CORS_ORIGINS=* and OPENCODE_CORS_CREDENTIALS=on together would lend every page the cookies of"
            " whoever looks at it: name the origins, or leave the credentials off."
        )


def may_be_several(settings: Settings) -> bool:
    """Whether owners may share the server: their commands are confined, or they are said to trust one another."""
    return settings.shared_shell or settings.sandbox == "require"


def _token(entry: str, number: int) -> Token:
    name, scopes, secret = DEFAULT_OWNER, "+".join(SCOPES), entry
    fields = entry.split(":")
    ambiguous = False
    if len(fields) == 2:  # noqa: PLR2004 - name:token
        name, secret = fields
        # Scopes without a name or a token: the one would give all scopes, the other a token that anyone guesses.
        ambiguous = name in SCOPES or set(secret.split("+")) <= set(SCOPES)
    elif len(fields) == 3:  # noqa: PLR2004 - name:scopes:token
        name, scopes, secret = fields
    known = set(scopes.split("+")) <= set(SCOPES) and not ambiguous
    if len(fields) > 3 or not _NAME.fullmatch(name) or not known or not _TOKEN.fullmatch(secret):  # noqa: PLR2004 - as above
        raise SettingsError(
            f"OPENCODE_AUTH_TOKENS, entry {number}: must be token, name:token or name:scopes:token, in printable"
            " ASCII, with a name of a-z 0-9 _ - (at most 32; no scope) and scopes of"
            f" {', '.join(SCOPES)} joined by '+'."
        )
    return Token(name, frozenset(scopes.split("+")), secret)


class Guard:
    """The checks of one server of where a request comes from and what it is for; holds no state of requests."""

    def __init__(self, settings: Settings) -> None:
        check_access(settings)
        self._auth = settings.auth_on
        self._public = settings.public_url
        self._origins = frozenset(settings.cors_origins)
        self._trusts_scheme = bool(self._public) or settings.trusted_proxies > 0
        hosts = {"localhost", settings.host.lower(), *settings.allowed_hosts}
        if self._public is not None:
            hosts.add(urlsplit(self._public).hostname or "")
        self._hosts = hosts
        self._listed = bool(settings.allowed_hosts or self._public)

    def check_peer(self, address: str | None, headers: Headers) -> None:
        """With auth off only this machine may call, and no proxy on its behalf."""
        if self._auth:
            return
        if not address or not is_loopback(address):
            raise Forbidden(
                "This server asks for no token and so answers only its own machine. To let others in, start it with"
                " tokens: OPENCODE_AUTH_TOKENS=name:secret (or `opencode serve --auth`)."
            )
        if any(name.lower().startswith(_FORWARDED) for name in headers.keys()):  # noqa: SIM118 - headers iterate as pairs
            raise Forbidden(
                "A proxy forwarded this request, and this server asks for no token. Start it with"
                " OPENCODE_AUTH_TOKENS=name:secret to put it behind a proxy."
            )

    def check_host(self, host: str) -> None:
        """Against DNS rebinding: a name that nobody gave this server is refused; an address cannot be rebound."""
        name = _host_name(host)
        if name is None:
            raise Forbidden("The Host header is missing or malformed.")
        if (self._auth and not self._listed) or name in self._hosts or is_address(name):
            return
        raise Forbidden(
            f"Host {name!r} is not allowed here. If it is yours, start the server with OPENCODE_ALLOWED_HOSTS={name}"
        )

    def check_origin(self, headers: Headers, *, scheme: str, host: str, is_page: bool, is_open: bool) -> None:
        """Refuse what another site's page sends. `is_page`: a GET of our page; `is_open`: the `*` of CORS covers it."""
        given = headers.get("Origin")
        if given is None:
            # The browser says that another site's page asks, and hides which: so may only a link to our page.
            top_level = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
            if headers.get("Sec-Fetch-Site") not in _OUR_SITE and not (is_page and top_level):
                raise Forbidden("A page of another site sent this request without an Origin.")
        elif given == "null":
            raise Forbidden("Origin 'null' is never allowed: serve the page over HTTP, not from a file or a sandbox.")
        elif not self.is_own_origin(given, scheme=scheme, host=host) and not self._allows(given, is_open=is_open):
            self._refuse_origin(given[:200], host)

    def is_own_origin(self, given: str | None, *, scheme: str, host: str) -> bool:
        """Whether an Origin header names this server: its public address, or the Host that was asked for."""
        if given is None:
            return False
        schemes = {scheme} if self._trusts_scheme else {"http", "https"}
        own = {_origin_or_none(f"{scheme}://{host}") for scheme in schemes}
        if self._public is not None:
            # Of the public host there is one scheme, whatever the last hop spoke.
            own = {name for name in own if name and urlsplit(name).hostname != urlsplit(self._public).hostname}
            own.add(self._public)
        return given.lower() in own - {None}

    def _allows(self, given: str, *, is_open: bool) -> bool:
        return given.lower() in self._origins or ("*" in self._origins and (self._auth or is_open))

    def _refuse_origin(self, given: str, host: str) -> NoReturn:
        if self._trusts_scheme and given.lower() == f"https://{host.lower()}":
            raise Forbidden(
                f"Origin {given!r} is this server's but for the scheme. Let the proxy send X-Forwarded-Proto, or start"
                f" the server with OPENCODE_PUBLIC_URL={given}"
            )
        raise Forbidden(
            f"Origin {given!r} is not allowed. If that page is yours, start the server with"
            f" OPENCODE_CORS_ORIGINS={given}"
        )


def check_scope(caller: Caller, scope: str) -> None:
    """Refuse a caller whose token lacks `scope`."""
    if scope not in caller.scopes:
        raise Forbidden(f"This token lacks the scope {scope!r}.")


def _origin_or_none(text: str) -> str | None:
    try:
        return origin(text)
    except ValueError:
        return None


def _host_name(host: str) -> str | None:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name and re.fullmatch(r"[\w.:-]+", name, re.ASCII) else None
