"""Rate limits by flask-limiter, and the cap on open streams (API section 8)."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from flask import Flask, Response, current_app, g, request
from flask_limiter import ApplicationLimit, Limiter, RateLimitExceeded
from limits import RateLimitItemPerSecond

from opencode.errors import RateLimitExceeded as TooMany
from opencode.settings import Settings

_STRATEGY = "moving-window"


def owner_key() -> str:
    """The caller's owner. Where no token is asked for, all are one owner, and the address alone counts."""
    return f"owner:{g.caller.owner}"


def address_key() -> str:
    """The client's address, as far as trusted hops tell it."""
    return f"address:{request.remote_addr or 'unknown'}"


def _does_not_count() -> bool:
    """Preflights, static files and reconnecting streams."""
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
        requests = f"{settings.rate_limit_max_requests} per {window_s} second"
        self._item = RateLimitItemPerSecond(settings.rate_limit_max_requests, window_s)
        self._sessions = RateLimitItemPerSecond(settings.rate_limit_max_sessions, window_s)
        self._streams: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.limiter = Limiter(
            key_func=address_key,
            application_limits=[
                ApplicationLimit(requests, key_function=address_key, exempt_when=_does_not_count),
                ApplicationLimit(
                    requests,
                    key_function=owner_key,
                    scope="owner",
                    exempt_when=lambda: _does_not_count() or not settings.auth_on,
                ),
            ],
            strategy=_STRATEGY,
            storage_uri="memory://",
            enabled=self._on,
        )
        self.limiter.init_app(app)
        app.after_request(self._add_headers)

    def keys(self) -> tuple[str, ...]:
        """Whom the request counts for: its address and, where tokens tell owners apart, then its owner."""
        return (address_key(), owner_key()) if self._settings.auth_on else (address_key(),)

    def count_message(self, keys: tuple[str, ...]) -> None:
        """Count a message of a connection as a request of those whom its upgrade counted for (`keys`).

        Raises:
            RateLimitExceeded: one of them has sent as many as the settings allow in this window.
        """
        for key, scope in zip(keys, ("global", "owner"), strict=False):
            if self._on and not self.limiter.limiter.hit(self._item, key, scope):
                reset_at = self.limiter.limiter.get_window_stats(self._item, key, scope).reset_time
                raise self._too_many("OPENCODE_RATE_LIMIT_MAX_REQUESTS", _seconds_until(reset_at))

    def count_session(self, keys: tuple[str, ...] | None = None) -> None:
        """Count a session that is about to be created, for the request's caller or for `keys`.

        Raises:
            RateLimitExceeded: the caller has created as many as the settings allow in this window.
        """
        key = (self.keys() if keys is None else keys)[-1]
        if self._on and not self.limiter.limiter.hit(self._sessions, key, "sessions"):
            reset_at = self.limiter.limiter.get_window_stats(self._sessions, key, "sessions").reset_time
            raise self._too_many("OPENCODE_RATE_LIMIT_MAX_SESSIONS", _seconds_until(reset_at))

    def hit_unrouted(self) -> None:
        """Count a request that no route took: flask-limiter looks at routed ones only."""
        if self._on and not self.limiter.limiter.hit(self._item, address_key(), "global"):
            raise self._too_many("OPENCODE_RATE_LIMIT_MAX_REQUESTS", self._settings.rate_limit_window_ms // 1000)

    def open_stream(self, owner: str) -> "OpenStream":
        """Count an open stream; it is let go at the end of `with`, unless it is handed over.

        Raises:
            RateLimitExceeded: the owner has as many as the settings allow.
        """
        with self._lock:
            if self._on and self._streams[owner] >= self._settings.max_streams:
                raise self._too_many("OPENCODE_MAX_STREAMS", 5)
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
        return self._too_many(exc.limit.error_message or "OPENCODE_RATE_LIMIT_MAX_REQUESTS", wait_s)

    @staticmethod
    def _too_many(setting: object, wait_s: int) -> TooMany:
        return TooMany(
            f"Too many: the limit of {setting} is reached. Come back in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )

    def _add_headers(self, response: Response) -> Response:
        """`RateLimit-*` as the IETF draft has them: `Reset` in seconds from now."""
        current = self.limiter.current_limit if self._on else None
        if current is not None:
            amount, left, reset_at = current.limit.amount, current.remaining, float(current.reset_at)
        elif self._on and response.status_code == TooMany.status:
            # What flask-limiter did not look at: a request without a route, or one that does not count.
            stats = self.limiter.limiter.get_window_stats(self._item, address_key(), "global")
            amount, left, reset_at = self._item.amount, stats.remaining, stats.reset_time
        else:
            return response
        response.headers["RateLimit-Limit"] = str(amount)
        response.headers["RateLimit-Remaining"] = str(max(0, left))
        response.headers["RateLimit-Reset"] = str(_seconds_until(reset_at))
        return response
