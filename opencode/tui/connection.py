"""The connection to one server: requests, and event streams that come back by themselves and say how they stand."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx2
import msgspec

from opencode.errors import OpenCodeError
from opencode.sse_reader import SseError, SseEvent, SseReader
from opencode.version import VERSION

_CONNECT_S = 10.0
#: Three heartbeats of a stream: a connection that is silent for longer is dead.
_SILENCE_S = 45.0
_RETRY_S = 1.0
_LONGEST_RETRY_S = 10.0
#: A stream that is quiet for so long has given all that was missed.
_QUIET_S = 0.3
#: A proxy from the environment cannot reach this machine's own loopback.
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_TEMPORARY = frozenset({429, 502, 503, 504})

Handle = Callable[[str, dict[str, Any], str], Awaitable[None]]


class Refused(OpenCodeError):
    """The server answered with an error; `message` is its own."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: float = _RETRY_S) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_temporary(self) -> bool:
        """Whether the same may be let in after `retry_after_s` seconds."""
        return self.status in _TEMPORARY


class Unreachable(OpenCodeError):
    """No answer, or none that an OpenCode server would give."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a stream stands: `since` is when it went offline (a time, 0 for never), `replayed` counts what was missed."""

    state: Literal["connecting", "catching up", "live", "offline"]
    since: float = 0.0
    replayed: int = 0


def checked_url(url: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        ValueError: it is none; the message shows the form.
    """
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise ValueError(f"{url!r} is no address of a server. It should look like http://localhost:3000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("The address of a server has no user, query or fragment; a token goes into OPENCODE_TOKEN.")
    return url.rstrip("/")


class Connection:
    """Requests to the server at `url`; `token` goes with each. Use it as an asynchronous context manager."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = checked_url(url)
        headers = {"User-Agent": f"opencode-attach/{VERSION}", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx2.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S),
            # A redirect would carry the token to wherever it points.
            follow_redirects=False,
            mounts=dict.fromkeys(_LOOPBACK),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._client.aclose()

    async def call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One request, and its answer.

        Raises:
            Refused: the server said no.
            Unreachable: there is no connection, or what answers is no OpenCode server.
        """
        try:
            response = await self._client.request(method, path, json=body, params=dict(query or {}))
        except httpx2.TransportError as exc:
            raise Unreachable(f"No server answers at {self.url} ({exc or type(exc).__name__}).") from exc
        if not response.is_success:
            raise _refusal(self.url, response)
        try:
            return msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.MsgspecError as exc:
            raise Unreachable(f"{self.url} answers, but not as an OpenCode server does.") from exc

    async def follow(
        self,
        path: str,
        query: Mapping[str, Any],
        last_id: str | None,
        handle: Handle,
        on_link: Callable[[Link], None],
    ) -> None:
        """Follow a stream for good, from `last_id` on: `handle` gets name, data and id of each event, one by one.

        A lost connection is opened again, from the last event that was handled.

        Raises:
            Refused: the server does not let us in, or what is followed is not there any more.
        """
        stream = _Stream(handle, on_link, last_id)
        pause_s = _RETRY_S
        while True:
            stream.link("connecting") if not stream.lost_at else stream.link("offline")
            try:
                headers = {"Accept": "text/event-stream"}
                if stream.last_id is not None:
                    headers["Last-Event-ID"] = stream.last_id
                async with self._client.stream("GET", path, params=dict(query), headers=headers) as response:
                    if response.is_success:
                        await stream.read(response)
                        pause_s = _RETRY_S
                    else:
                        await response.aread()
                        refusal = _refusal(self.url, response)
                        if not isinstance(refusal, Refused) or not refusal.is_temporary:
                            raise refusal
            except (httpx2.TransportError, httpx2.StreamError, SseError, msgspec.MsgspecError, Unreachable):
                pass
            if stream.ended:
                return
            stream.lost()
            await asyncio.sleep(max(pause_s, stream.take_retry_s()))
            pause_s = min(pause_s * 2, _LONGEST_RETRY_S)


class _Stream:
    """What is known of a stream across its connections."""

    def __init__(self, handle: Handle, on_link: Callable[[Link], None], last_id: str | None) -> None:
        self._handle = handle
        self._on_link = on_link
        self.last_id = last_id
        self.lost_at = 0.0
        self.ended = False
        self._retry_s = 0.0
        self._replayed = 0
        self._quiet: asyncio.TimerHandle | None = None

    def link(self, state: Literal["connecting", "catching up", "live", "offline"]) -> None:
        self._on_link(Link(state, since=self.lost_at, replayed=self._replayed))

    async def read(self, response: httpx2.Response) -> None:
        """Hand on what comes, to the end of this connection."""
        reader = SseReader()
        self._replayed = 0
        self.link("catching up")
        self._wait_for_quiet()
        try:
            async for chunk in response.aiter_bytes():
                for event in reader.feed(chunk):
                    await self._take(event)
                self.last_id = self.last_id if reader.last_id is None else reader.last_id
                self._retry_s = (reader.retry_ms or 0) / 1000
        finally:
            if self._quiet is not None:
                self._quiet.cancel()
                self._quiet = None

    async def _take(self, event: SseEvent) -> None:
        if self._quiet is not None:
            self._replayed += 1
            self._wait_for_quiet()
        await self._handle(event.event, msgspec.json.decode(event.data, type=dict[str, Any]), event.id or "")
        if event.id is not None:
            self.last_id = event.id
        self.ended = event.event == "session_deleted" and event.id is None

    def _wait_for_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(_QUIET_S, self._caught_up)

    def _caught_up(self) -> None:
        self._quiet = None
        self.link("live")
        self.lost_at = 0.0

    def lost(self) -> None:
        self.lost_at = self.lost_at or time.time()
        self.link("offline")

    def take_retry_s(self) -> float:
        """What the server said last about when to come back."""
        retry_s, self._retry_s = self._retry_s, 0.0
        return min(retry_s, _LONGEST_RETRY_S)


def _refusal(url: str, response: httpx2.Response) -> Refused | Unreachable:
    try:
        error = msgspec.json.decode(response.content, type=dict[str, Any])["error"]
        after = response.headers.get("Retry-After", "")
        retry_after_s = float(after) if after.isascii() and after.isdigit() else _RETRY_S
        return Refused(response.status_code, str(error["code"]), str(error["message"]), retry_after_s=retry_after_s)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return Unreachable(f"{url} answers with {response.status_code}, but not as an OpenCode server does.")
