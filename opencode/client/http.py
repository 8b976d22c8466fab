"""Requests to one server: sent again where that is safe and may help."""

import contextlib
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from opencode.client.errors import ApiError, ProtocolError, Unreachable
from opencode.client.patience import Patience
from opencode.version import VERSION

_Answer = TypeVar("_Answer")

_CONNECT_S = 10.0
#: Less than the server keeps an idle connection, so that none is used which it is about to close.
_KEEPALIVE_S = 1.0
#: A proxy from the environment cannot reach this machine's own loopback.
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")


class Http:
    """A pool of connections to `url`; may be used by several threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        patience_s: float,
        silence_s: float,
        transport: httpx2.BaseTransport | None,
    ) -> None:
        self.url = _checked(url)
        self.patience_s = patience_s
        #: Whether the server was there once: only then is it worth waiting for.
        self.reached = False
        headers = {"User-Agent": f"opencode-client/{VERSION}", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(silence_s, connect=min(_CONNECT_S, silence_s)),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
            # A redirect would carry the token and the prompt to wherever it points.
            follow_redirects=False,
            mounts=dict.fromkeys(_LOOPBACK) if transport is None else None,
            transport=transport,
            headers=headers,
        )

    def close(self) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        answer: type[_Answer],
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> _Answer:
        """Ask until there is an answer, for as long as patience lasts; `repeatable`: twice does the same as once.

        Raises:
            ApiError: it is a refusal.
            Unreachable: the server cannot be reached.
            ProtocolError: what came is not of the type `answer`.
        """
        patience = Patience(self.patience_s)
        lost = False
        while True:
            try:
                data = self._exchange(method, path, body=body, query=query, headers=headers)
                return msgspec.json.decode(data, type=answer)
            except ApiError as exc:
                if lost and method == "DELETE" and exc.status == 404:  # noqa: PLR2004 - the lost answer was that it is done
                    return msgspec.convert({}, answer)
                if not exc.is_temporary or not patience.wait(at_least_s=exc.retry_after_s or 0.0):
                    raise
            except Unreachable as exc:
                lost = lost or exc.was_connected
                if not (self.reached and repeatable and patience.wait()):
                    raise
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise ProtocolError(f"{self.url}{path} answers, but not as an OpenCode server does: {exc}") from exc

    def _exchange(self, method: str, path: str, **request: Any) -> bytes:
        response = self.open(method, path, **request)
        with contextlib.closing(response), translated(self.url):
            return response.read()

    def open(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Send a request, once, and give its answer when the head is there; whoever gets it closes it.

        Raises:
            ApiError: it is a refusal.
            Unreachable: the server cannot be reached.
            ProtocolError: it is a redirect.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        request = self._client.build_request(
            method,
            self.url + path,
            content=None if body is None else msgspec.json.encode(body),
            params=given or None,
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
        )
        with translated(self.url):
            try:
                response = self._client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                raise
            except httpx2.TransportError:
                self.reached = True
                raise
            self.reached = True
            if response.is_success:
                return response
            with contextlib.closing(response):
                raise _refusal(self.url, response)


@contextlib.contextmanager
def translated(url: str) -> Any:
    """Turn what the HTTP library raises while talking to `url` into `Unreachable`."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
        message = f"No server answers at {url} ({exc or 'timed out'}). Start one with: opencode serve"
        raise Unreachable(message, was_connected=False) from exc
    except (httpx2.TransportError, httpx2.StreamError) as exc:
        raise Unreachable(f"The connection to {url} is lost: {exc or type(exc).__name__}") from exc


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a server; it should look like http://localhost:3000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("The address of a server has no user, query or fragment; pass the token as `token`.")
    return url.rstrip("/")


def _refusal(url: str, response: httpx2.Response) -> ApiError | ProtocolError:
    if response.is_redirect:
        return ProtocolError(f"{url} redirects to {response.headers.get('Location', '?')[:200]}: use that address.")
    try:
        error = msgspec.json.decode(response.read())["error"]
        code, message = str(error["code"]), str(error["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        error, code = {}, f"HTTP_{response.status_code}"
        message = f"{url} answers {response.status_code}, and not as an OpenCode server does"
    return ApiError(
        code,
        response.status_code,
        message,
        details=error.get("details"),
        request_id=response.headers.get("X-Request-Id"),
        retry_after_s=_seconds(response.headers.get("Retry-After", "")),
    )


def _seconds(text: str) -> float | None:
    """The server sends whole seconds; a date, which some proxy may send, is left to the back-off."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None  # noqa: PLR2004 - 11 days
