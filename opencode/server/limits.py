"""Rate limits by flask-limiter, the cap on open streams, and what slows a guesser of tokens down (API section 8)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flask import Flask, Response, current_app, g, has_request_context, request
from flask_limiter import Limiter
from limits import RateLimitItemPerSecond

from opencode.errors import RateLimitExceeded as TooMany
from opencode.redis_client import connect
from opencode.server.guesses import FREE, Guesses, SharedGuesses
from opencode.server.open_streams import OpenStream, OpenStreams, SharedStreams
from opencode.server.reach import Reach
from opencode.server.shared_windows import FailOpen
from opencode.server.windows import BoundedMemory, network
from opencode.settings import Settings

#: Somebody types: a request for each key.
_KEYS = "tui.type_on_screen"
#: Whom a session that is made now counts for, where no request says so.
_behalf: ContextVar[list[str] | None] = ContextVar("behalf", default=None)
#: When to come back where something must end first.
_SOON_S = 5
#: How long Redis may take to count.
_REDIS_S = 0.5


def owner_key(owner: str) -> str:
    return f"owner:{owner}"


def address_key() -> str:
    """The client's address, as far as trusted hops tell it; of IPv6 the network that one customer has."""
    return f"address:{network(request.remote_addr)}"


def _kind() -> str | None:
    """What a routed request counts as: `requests`, `keys`; nothing: preflights, health, static files, reconnects."""
    endpoint = request.endpoint or ""
    if request.method == "OPTIONS" or request.blueprint == "health" or endpoint.rpartition(".")[2] == "static":
        return None
    if request.method == "GET" and "Last-Event-ID" in request.headers:
        contract = getattr(current_app.view_functions.get(endpoint), "contract", None)
        if contract is not None and contract.streams is not None:
            return None
    return "keys" if endpoint == _KEYS else "requests"


def _seconds_until(moment: float) -> int:
    return max(1, round(moment - time.time()))


class _Limiter(Limiter):
    """flask-limiter with its storage, strategy and place in a request, and a check that knows what there is to count.

    Its own looks for limits of the view, its blueprint and the app, anew with each request, at the cost of a whole one;
    `python -m bench requests` measures it.
    """

    def __init__(self, count: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._count = count

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:  # noqa: ARG002 - the library's signature
        self._count()


class Limits:
    """The limits of one server."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._settings = settings
        self._on = settings.rate_limit
        self._tells_owners = settings.auth_on
        window_s = max(1, round(settings.rate_limit_window_ms / 1000))
        amounts = {
            "requests": settings.rate_limit_max_requests,
            "keys": settings.rate_limit_max_keys,
            "sessions": settings.rate_limit_max_sessions,
        }
        self._items = {kind: RateLimitItemPerSecond(amount, window_s) for kind, amount in amounts.items()}
        self._lock = threading.Lock()
        self._guesses: Guesses | SharedGuesses = Guesses()
        self._streams = OpenStreams(settings.max_streams if self._on else None)
        redis = None
        if self._on and settings.several_processes:
            redis = connect(settings.redis_url or "", timeout_s=_REDIS_S)
        self.limiter = _Limiter(
            self._count,
            key_func=address_key,
            strategy="moving-window",
            storage_uri=f"{BoundedMemory.STORAGE_SCHEME[0]}://" if redis is None else "redis://",
            storage_options={}
            if redis is None
            else {"connection_pool": redis.connection_pool, "wrap_exceptions": True},
            enabled=self._on,
        )
        self.limiter.init_app(app)
        self._windows: Any = self.limiter.limiter if self._on else None
        if redis is not None:
            self._share(redis, app.extensions["opencode-metrics"].unlimited)
        app.after_request(self._add_headers)

    def _share(self, redis: Any, on_open: Callable[[], None]) -> None:
        """Count together with all servers; `on_open` is called for each count that is left out."""
        reach = Reach()
        reach.on_open = on_open
        self._windows = FailOpen(self._windows, reach)
        self._guesses = SharedGuesses(redis, reach, Guesses())
        self._streams = SharedStreams(self._settings.max_streams, redis, reach)

    def _count(self) -> None:
        """Count a request that a route took."""
        kind = _kind()
        if kind is not None:
            self._count_as(kind, self.keys())

    def _count_as(self, kind: str, keys: list[str]) -> None:
        g.counted = (kind, keys)
        self._hit(kind, keys)

    def count_unrouted(self) -> None:
        """Count a request that no route took; nobody has asked who sent it."""
        if self._on:
            self._count_as("requests", [address_key()])

    def _hit(self, kind: str, keys: list[str]) -> None:
        """Count it in all of the windows, or, where one of them is full, in none."""
        item, windows = self._items[kind], self._windows
        with self._lock:
            for key in keys:
                if not windows.test(item, key, kind):
                    wait_s = _seconds_until(windows.get_window_stats(item, key, kind).reset_time)
                    setting = f"OPENCODE_RATE_LIMIT_MAX_{kind.upper()}"
                    raise _too_many(setting, item.amount, wait_s, hint=self._hint(key))
            for key in keys:
                windows.hit(item, key, kind)

    def _hint(self, key: str) -> str:
        """What to say where all clients of a proxy seem to be one."""
        proxied = has_request_context() and "X-Forwarded-For" in request.headers and not self._settings.trusted_proxies
        shared = proxied and not key.startswith(owner_key(""))
        return " Where a proxy stands before it, OPENCODE_TRUSTED_PROXIES=1 tells its clients apart." if shared else ""

    def keys(self) -> list[str]:
        """Whom the request counts for: its client's address and, where a token named one, its owner."""
        # On the open routes nobody is an owner: in a window for all of them one could use up everybody's.
        named = self._tells_owners and g.caller.scopes
        return [address_key(), owner_key(g.caller.owner)] if named else [address_key()]

    def count_message(self, keys: list[str]) -> None:
        """Count a message of a connection as a request of those whom its upgrade counted for (`keys`).

        Raises:
            RateLimitExceeded: one of them has sent as many as the settings allow in this window.
        """
        if self._on:
            self._hit("requests", keys)

    @contextmanager
    def on_behalf_of(self, keys: list[str]) -> Iterator[None]:
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
        keys = _behalf.get() or (self.keys() if has_request_context() else [owner_key(owner)])
        if self._on:
            self._hit("sessions", keys)

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

    def open_stream(self, owner: str) -> OpenStream:
        """Count an open stream; it is let go at the end of `with`, unless it is handed over.

        Raises:
            RateLimitExceeded: the owner has as many as the settings allow.
        """
        stream = self._streams.open(owner)
        if stream is None:
            raise _too_many("OPENCODE_MAX_STREAMS", self._settings.max_streams, _SOON_S)
        return stream

    def _add_headers(self, response: Response) -> Response:
        """`RateLimit-*` as the IETF draft has them, of the window with the least left: `Reset` in seconds from now."""
        if "counted" in g and "RateLimit-Limit" not in response.headers:
            kind, keys = g.counted
            item = self._items[kind]
            stats = [self._windows.get_window_stats(item, key, kind) for key in keys]
            reset_at, left = min(stats, key=lambda window: window.remaining)
            response.headers["RateLimit-Limit"] = str(item.amount)
            response.headers["RateLimit-Remaining"] = str(max(0, left))
            response.headers["RateLimit-Reset"] = str(_seconds_until(reset_at))
        return response


def _too_many(setting: str, amount: int, wait_s: int, *, hint: str = "") -> TooMany:
    return TooMany(
        f"Too many: the limit of {setting} is reached. Come back in {wait_s} s.{hint}", headers=_headers(amount, wait_s)
    )


def _headers(amount: int, wait_s: int) -> dict[str, str]:
    """Of a refusal: nothing is left."""
    return {
        "Retry-After": str(wait_s),
        "RateLimit-Limit": str(amount),
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(wait_s),
    }
