"""Rate limits by flask-limiter, the cap on open streams, and what slows a guesser of tokens down (API section 8)."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

from flask import Flask, Response, current_app, g, has_request_context, request
from flask_limiter import ApplicationLimit, Limiter, RateLimitExceeded
from limits import RateLimitItemPerSecond

from opencode.errors import RateLimitExceeded as TooMany
from opencode.server.guesses import FREE, Guesses
from opencode.server.windows import BoundedMemory, network
from opencode.settings import Settings

_STRATEGY = "moving-window"
#: Somebody types: a request for each key.
_KEYS = "tui.type_on_screen"
#: Whom a session that is made now counts for, where no request says so.
_behalf: ContextVar[tuple[str, ...]] = ContextVar("behalf", default=())
#: When to come back where something must end first.
_SOON_S = 5


def owner_key() -> str:
    """The caller's owner. Where no token is asked for, all are one owner, and the address alone counts."""
    return f"owner:{g.caller.owner}"


def address_key() -> str:
    """The client's address, as far as trusted hops tell it; of IPv6 the network that one customer has."""
    return f"address:{network(request.remote_addr)}"


def _kind() -> str | None:
    """What the request counts as: `requests`, `keys`; preflights, static files and reconnecting streams are nothing."""
    if "limit_kind" not in g:
        g.limit_kind = None if _does_not_count() else "keys" if request.endpoint == _KEYS else "requests"
    kind: str | None = g.limit_kind
    return kind


def _does_not_count() -> bool:
    contract = getattr(current_app.view_functions.get(request.endpoint or ""), "contract", None)
    streams = contract is not None and contract.streams is not None
    reconnects = streams and request.method == "GET" and "Last-Event-ID" in request.headers
    return request.method == "OPTIONS" or request.endpoint == "static" or reconnects


def _seconds_until(moment: float) -> int:
    return max(1, round(moment - time.time()))


class OpenStream:
    """A stream that counts until it is closed, once."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close: Callable[[], None] | None = close
        self._handed_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._handed_over:
            self.close()

    def hand_over(self) -> Callable[[], None]:
        """From here the response closes it, by calling what comes back."""
        self._handed_over = True
        return self.close

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()


class Limits:
    """The limits of one server."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._settings = settings
        self._on = settings.rate_limit
        window_s = max(1, round(settings.rate_limit_window_ms / 1000))
        self._item = RateLimitItemPerSecond(settings.rate_limit_max_requests, window_s)
        self._sessions = RateLimitItemPerSecond(settings.rate_limit_max_sessions, window_s)
        self._streams: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._guesses = Guesses()
        self.limiter = Limiter(
            key_func=address_key,
            application_limits=[
                *self._limits_of("requests", settings.rate_limit_max_requests, window_s),
                *self._limits_of("keys", settings.rate_limit_max_keys, window_s),
            ],
            strategy=_STRATEGY,
            storage_uri=f"{BoundedMemory.STORAGE_SCHEME[0]}://",
            enabled=self._on,
        )
        self.limiter.init_app(app)
        app.after_request(self._add_headers)

    def _limits_of(self, kind: str, amount: int, window_s: int) -> list[ApplicationLimit]:
        """One by address; one by owner, where owners are told apart."""
        limit, auth_on = f"{amount} per {window_s} second", self._settings.auth_on
        setting = f"OPENCODE_RATE_LIMIT_MAX_{kind.upper()}"
        by_address = ApplicationLimit(
            limit, address_key, scope=kind, error_message=setting, exempt_when=lambda: _kind() != kind
        )
        by_owner = ApplicationLimit(
            limit, owner_key, scope=kind, error_message=setting, exempt_when=lambda: _kind() != kind
        )
        return [by_address, by_owner] if auth_on else [by_address]

    def keys(self) -> tuple[str, ...]:
        """Whom the request counts for: its address and, where tokens tell owners apart, then its owner."""
        return (address_key(), owner_key()) if self._settings.auth_on else (address_key(),)

    def count_message(self, keys: tuple[str, ...]) -> None:
        """Count a message of a connection as a request of those whom its upgrade counted for (`keys`).

        Raises:
            RateLimitExceeded: one of them has sent as many as the settings allow in this window.
        """
        for key in keys if self._on else ():
            self._hit_request(key)

    @contextmanager
    def on_behalf_of(self, keys: tuple[str, ...]) -> Iterator[None]:
        """Let what is made within count for these: for a connection that has outlived its request."""
        token = _behalf.set(keys)
        try:
            yield
        finally:
            _behalf.reset(token)

    def count_session(self, _sender: object, *, owner: str) -> None:
        """Count a session that is about to be made, by whatever way: by its owner, and by the client's address.

        Raises:
            RateLimitExceeded: as many were made in this window as the settings allow.
        """
        if not self._on:
            return
        keys = _behalf.get() or (self.keys() if has_request_context() else (f"owner:{owner}",))
        windows = self.limiter.limiter
        with self._lock:
            for key in keys:
                if not windows.test(self._sessions, key, "sessions"):
                    reset_at = windows.get_window_stats(self._sessions, key, "sessions").reset_time
                    setting, amount = "OPENCODE_RATE_LIMIT_MAX_SESSIONS", self._sessions.amount
                    raise self._too_many(setting, amount, _seconds_until(reset_at))
            for key in keys:
                windows.hit(self._sessions, key, "sessions")

    def wrong_token(self) -> None:
        """Count a wrong token, ticket, code or cookie, after it was found wrong: a right one is never asked to wait.

        Raises:
            RateLimitExceeded: its sender has to wait.
        """
        wait_s = self._guesses.failed(network(request.remote_addr)) if self._on else 0
        if wait_s:
            raise TooMany(
                f"Too many wrong tokens came from this address. Come back in {wait_s} s; a right one"
                " (OPENCODE_AUTH_TOKENS) is let in at any time.",
                headers=_headers(FREE, wait_s),
            )

    def hit_unrouted(self) -> None:
        """Count a request that no route took: flask-limiter looks at routed ones only."""
        if self._on:
            self._hit_request(address_key())

    def _hit_request(self, key: str) -> None:
        windows = self.limiter.limiter
        if not windows.hit(self._item, key, "requests"):
            reset_at = windows.get_window_stats(self._item, key, "requests").reset_time
            raise self._too_many("OPENCODE_RATE_LIMIT_MAX_REQUESTS", self._item.amount, _seconds_until(reset_at))

    def open_stream(self, owner: str) -> "OpenStream":
        """Count an open stream; it is let go at the end of `with`, unless it is handed over.

        Raises:
            RateLimitExceeded: the owner has as many as the settings allow.
        """
        with self._lock:
            if self._on and self._streams[owner] >= self._settings.max_streams:
                raise self._too_many("OPENCODE_MAX_STREAMS", self._settings.max_streams, _SOON_S)
            self._streams[owner] += 1
        return OpenStream(lambda: self._close_stream(owner))

    def _close_stream(self, owner: str) -> None:
        with self._lock:
            self._streams[owner] -= 1
            if not self._streams[owner]:
                del self._streams[owner]

    def explain(self, exc: RateLimitExceeded) -> TooMany:
        """flask-limiter's refusal in our words: the setting, and when to come back."""
        current = self.limiter.current_limit
        wait_s = _seconds_until(current.reset_at) if current is not None else 1
        return self._too_many(exc.limit.error_message, exc.limit.limit.amount, wait_s)

    @staticmethod
    def _too_many(setting: object, amount: int, wait_s: int) -> TooMany:
        return TooMany(
            f"Too many: the limit of {setting} is reached. Come back in {wait_s} s.",
            headers=_headers(amount, wait_s),
        )

    def _add_headers(self, response: Response) -> Response:
        """`RateLimit-*` as the IETF draft has them: `Reset` in seconds from now."""
        current = self.limiter.current_limit if self._on else None
        if current is not None and "RateLimit-Limit" not in response.headers:
            reset_at, left = current.window
            response.headers["RateLimit-Limit"] = str(current.limit.amount)
            response.headers["RateLimit-Remaining"] = str(max(0, left))
            response.headers["RateLimit-Reset"] = str(_seconds_until(reset_at))
        return response


def _headers(amount: int, wait_s: int) -> dict[str, str]:
    """Of a refusal: nothing is left."""
    return {
        "Retry-After": str(wait_s),
        "RateLimit-Limit": str(amount),
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(wait_s),
    }
