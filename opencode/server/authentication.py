"""Who sends a request: by a bearer token, a ticket in the address, or the page's cookie (API section 8)."""

import hmac
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

from opencode.errors import Forbidden, Unauthorized
from opencode.server import auth_handler
from opencode.server.access import (
    DEFAULT_OWNER,
    LOCAL_OWNER,
    SCOPES,
    Caller,
    Token,
    is_name,
    may_be_several,
    parse_tokens,
    tokens_of,
)
from opencode.server.auth_handler import AuthHandler
from opencode.server.credentials import Claims, Credentials
from opencode.settings import Settings

log = logging.getLogger(__name__)

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="opencode"'}
_SAFE = {"GET", "HEAD", "OPTIONS"}
_FIX = "To allow several: OPENCODE_SANDBOX=require, or OPENCODE_SHARED_SHELL=on where they trust one another."
#: Tokens that the custom handler let in are kept in memory for the tickets and cookies that were made with them.
_REMEMBERED_TOKENS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a request shows to be let in. `own_origin`: it says that a page of this server's own origin sent it."""

    method: str
    path: str
    host: str
    authorization: str | None = None
    ticket: str | None = None
    cookies: tuple[str, ...] = ()
    own_origin: bool = False
    #: A stream that had begun comes back.
    reconnects: bool = False
    #: A WebSocket is asked for: a GET by which much can be done.
    upgrades: bool = False


class Authenticator:
    """Knows the tokens of one server. `new_token` is one that it made for itself."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        *,
        new_token: str | None = None,
        handler: AuthHandler | None = None,
    ) -> None:
        self.credentials = credentials
        self.is_on = settings.auth_on
        self._tokens = (*tokens_of(settings), *parse_tokens(tuple(filter(None, [new_token]))))
        self._handler = handler
        self._may_be_several = may_be_several(settings)
        self._owners = {token.owner for token in self._tokens}
        self._marks = {credentials.token_mark(token.secret): token for token in self._tokens}
        self._handled: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def caller(self, shown: Shown) -> Caller:
        """Who it is. With authentication off everyone is the local owner.

        Of a bearer token, a ticket and a cookie the first that is there counts, right or wrong.

        Raises:
            Unauthorized: nothing is shown, or nothing that is right.
            Forbidden: a cookie came with an unsafe request that no page of this server sent.
        """
        if not self.is_on:
            return Caller(LOCAL_OWNER, frozenset(SCOPES))
        scheme, _, token = (shown.authorization or "").partition(" ")
        if scheme.lower() == "bearer":  # another scheme is for a proxy before us
            found = self.by_token(token.strip())
        elif shown.ticket is not None:
            found = self._by_ticket(shown.ticket, shown)
        elif shown.cookies:
            found = self._by_cookie(shown)
        else:
            raise refusal("A token is needed: Authorization: Bearer <token>")
        if found is None:
            raise refusal(_unknown(shown))
        return found

    def by_token(self, given: str) -> Caller | None:
        """The caller that a token names. All tokens are compared, each in constant time, then the handler is asked."""
        found: Token | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.secret.encode(), given.encode(errors="replace")):
                found = token
        mark = self.credentials.token_mark(given)
        if found is not None:
            return Caller(found.owner, found.scopes, mark)
        return self._by_handler(given, mark) if given else None

    def _by_handler(self, given: str, mark: str) -> Caller | None:
        answer = auth_handler.ask(self._handler, given) if self._handler is not None else None
        owner = DEFAULT_OWNER if answer is True else answer
        if not isinstance(owner, str) or not is_name(owner):
            if answer is not None and answer is not False:
                log.error("the custom auth handler must answer True or a name of a-z 0-9 _ -; the request was refused")
            return None
        with self._lock:
            if owner not in self._owners and self._owners and not self._may_be_several:
                log.error(
                    "the custom auth handler names a second owner, who could reach the files of the first. %s", _FIX
                )
                raise Forbidden(f"This server serves one owner. {_FIX}")
            self._owners.add(owner)
            self._handled[mark] = given
            self._handled.move_to_end(mark)
            while len(self._handled) > _REMEMBERED_TOKENS:
                self._handled.popitem(last=False)
        return Caller(owner, frozenset(SCOPES), mark)

    def _by_mark(self, claims: Claims) -> Caller | None:
        """The caller of the token that a credential was made with, if that still lets in."""
        token = self._marks.get(claims.token_mark)
        if token is not None:
            return Caller(token.owner, token.scopes, claims.token_mark, claims.sign_in)
        given = self._handled.get(claims.token_mark)
        found = self._by_handler(given, claims.token_mark) if given is not None else None
        return found and Caller(found.owner, found.scopes, found.token_mark, claims.sign_in)

    def _by_ticket(self, ticket: str, shown: Shown) -> Caller | None:
        claims = self.credentials.read_ticket(ticket, reconnects=shown.reconnects) if shown.method == "GET" else None
        if claims is None or (claims.path, claims.host) != (shown.path, shown.host):
            return None
        return self._by_mark(claims)

    def _by_cookie(self, shown: Shown) -> Caller | None:
        claims = next(filter(None, map(self.credentials.read_cookie, shown.cookies)), None)
        if claims is None or claims.host != shown.host:
            return None
        if not shown.own_origin and (shown.upgrades or shown.method not in _SAFE):
            raise Forbidden("A request by cookie that changes something must say that it comes from our page: Origin.")
        return self._by_mark(claims)

    # Signing in

    def link_code(self) -> str | None:
        """A code for the printed link; None where no token says who would be signed in, or several owners do."""
        alone = self.is_on and self._tokens and len({token.owner for token in self._tokens}) == 1
        return self.credentials.code() if alone else None

    def by_code(self, code: str) -> Caller | None:
        """Who is signed in by the printed link's code, which is used up by it: as the token that may do most."""
        if not self._tokens or not self.credentials.spend_code(code):
            return None
        most = max(self._tokens, key=lambda token: len(token.scopes))
        return Caller(most.owner, most.scopes, self.credentials.token_mark(most.secret))


def refusal(message: str) -> Unauthorized:
    """A 401 with its challenge."""
    return Unauthorized(message, headers=_CHALLENGE)


def _unknown(shown: Shown) -> str:
    if shown.authorization is not None:
        return "Unknown token."
    if shown.ticket is not None:
        return "The ticket is unknown or its time is over."
    return "The sign-in is over: sign in again."
