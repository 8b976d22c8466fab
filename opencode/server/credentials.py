"""Credentials for browsers: tickets for streams, cookies for the page, codes for the printed link (API section 8).

All are signed with the server's key and bound to the token that they were made with: they die with it. What must be
known once and for all (a code was used, a sign-in was ended, a ticket was opened) is a mark in the store.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from opencode.wiring import Services

#: A ticket opens its stream within this time, and the same stream again for as long as a reader may come back.
TICKET_S = 60
TICKET_RECONNECT_S = 12 * 3600
COOKIE_S = 7 * 24 * 3600
CODE_S = 600
_KEY_BYTES = 32
_ID_BYTES = 12
#: A signed text that is longer was not made here.
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Claims:
    """What a ticket or cookie says: whose token it was made with, at which Host, in which sign-in, for which path."""

    token_mark: str
    host: str
    sign_in: str
    path: str = ""


class _Signer(TimestampSigner):
    """As itsdangerous has it, with a clock of ours."""

    default_digest_method = staticmethod(hashlib.sha256)

    def __init__(self, *args: Any, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


class Credentials:
    """Makes and reads them. `clock` gives seconds since the epoch."""

    def __init__(self, services: Services, *, clock: Callable[[], float] = time.time) -> None:
        given = services.settings.secret_key
        self._key = given.encode() if given else services.secrets.secret("signing", secrets.token_bytes(_KEY_BYTES))
        self._store = services.secrets
        self._clock = clock
        self._tickets = self._serializer("ticket")
        self._cookies = self._serializer("cookie")
        self._codes = _Signer(self._key, salt="code", clock=clock)

    def _serializer(self, salt: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._key, salt=salt, signer=_Signer, signer_kwargs={"clock": self._clock})

    def token_mark(self, token: str) -> str:
        """What stands for a token where itself must not be written."""
        return hmac.new(self._key, b"token:" + token.encode(errors="replace"), "sha256").hexdigest()[:32]

    # Tickets

    def ticket(self, claims: Claims) -> str:
        """A ticket for a GET of `claims.path`."""
        identity = secrets.token_urlsafe(_ID_BYTES)
        return str(self._tickets.dumps([identity, claims.token_mark, claims.host, claims.sign_in, claims.path]))

    def read_ticket(self, text: str, *, reconnects: bool) -> Claims | None:
        """What the ticket says; None where it is not ours, or its time is over.

        `reconnects` says that a stream which had begun comes back: that is let in for longer, if this ticket opened it.
        """
        found = self._loaded(self._tickets, text, TICKET_RECONNECT_S)
        if found is None:
            return None
        (identity, *claimed), made_s = found
        opened, now = f"ticket:{identity}", self._clock()
        if now - made_s <= TICKET_S:
            self._store.mark(opened, now=now, until=made_s + TICKET_RECONNECT_S)
        elif not (reconnects and self._store.marked(opened)):
            return None
        return self._standing(Claims(*claimed))

    # Cookies

    def cookie(self, token_mark: str, host: str) -> str:
        """The value of a new sign-in's cookie."""
        return str(self._cookies.dumps([secrets.token_urlsafe(_ID_BYTES), token_mark, host]))

    def read_cookie(self, text: str) -> Claims | None:
        """What the cookie says; None where it is not ours, too old, or its sign-in was ended."""
        found = self._loaded(self._cookies, text, COOKIE_S)
        if found is None:
            return None
        identity, token_mark, host = found[0]
        return self._standing(Claims(token_mark, host, identity))

    def end(self, sign_in: str) -> None:
        """End a sign-in: its cookie, and the tickets that were made in it, are void from here on."""
        now = self._clock()
        self._store.mark(f"ended:{sign_in}", now=now, until=now + COOKIE_S + TICKET_RECONNECT_S)

    def ended(self, sign_in: str) -> bool:
        """Whether a sign-in was ended; "" stands for none, which cannot be."""
        return bool(sign_in) and self._store.marked(f"ended:{sign_in}")

    def _standing(self, claims: Claims) -> Claims | None:
        return None if self.ended(claims.sign_in) else claims

    # Codes

    def code(self) -> str:
        """A code that signs in once, within ten minutes."""
        return self._codes.sign(secrets.token_urlsafe(_ID_BYTES)).decode()

    def spend_code(self, text: str) -> bool:
        """Whether this is such a code; it is none any more afterwards."""
        try:
            identity = self._codes.unsign(text, max_age=CODE_S).decode()
        except BadData:
            return False
        now = self._clock()
        return self._store.mark(f"code:{identity}", now=now, until=now + CODE_S + TICKET_S)

    @staticmethod
    def _loaded(serializer: URLSafeTimedSerializer, text: str, age_s: int) -> tuple[list[str], float] | None:
        if len(text) > _LONGEST:
            return None
        try:
            payload, made = serializer.loads(text, max_age=age_s, return_timestamp=True)
        except BadData:
            return None
        return payload, made.timestamp()
