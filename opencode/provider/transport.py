"""httpx's transport over urllib3: the SDKs keep their client, and a streamed piece costs a third of httpx's own.

Imported when the first client is built: httpx and urllib3 are no part of a server's start.
"""

import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from opencode.provider.chunked import ChunkError, Chunks

OnSocket = Callable[[socket.socket], None]

#: What one read asks for; it gives what is there, be it a byte.
_READ_BYTES = 16 * 1024
_POOLS = 4
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Transport(httpx2.BaseTransport):
    """One connection for each request. `on_socket` is called with its socket once it is connected.

    Over TLS it is called twice: the first socket is dead once the second stands. Proxies are the environment's, as
    urllib reads them; one cannot reach this machine's own loopback, which is always asked directly.
    """

    def __init__(self, context: ssl.SSLContext, on_socket: OnSocket) -> None:
        self._options: dict[str, Any] = {"num_pools": _POOLS, "ssl_context": context}
        self._pools = _pool_classes(on_socket)
        self._proxies = urllib.request.getproxies()
        self._direct = self._manager(None)
        self._by_proxy: dict[str, urllib3.PoolManager] = {}

    def _manager(self, proxy: str | None) -> urllib3.PoolManager:
        if proxy is None:
            manager = urllib3.PoolManager(**self._options)
        else:
            credentials = urllib3.util.parse_url(proxy).auth
            headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
            manager = urllib3.ProxyManager(proxy, proxy_headers=headers, **self._options)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def _manager_for(self, url: httpx2.URL) -> urllib3.PoolManager:
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if not proxy or url.host in _LOOPBACK or urllib.request.proxy_bypass(url.host):
            return self._direct
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if proxy not in self._by_proxy:
            self._by_proxy[proxy] = self._manager(proxy)
        return self._by_proxy[proxy]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        limits = request.extensions.get("timeout", {})
        headers = {name: value for name, value in request.headers.items() if name != "connection"}
        with _translated():
            response = self._manager_for(request.url).urlopen(
                request.method,
                str(request.url),
                body=request.read(),
                # None is kept: a turn's steps lie seconds apart, and one that the provider has closed in between
                # would fail a call that nothing is wrong with.
                headers={**headers, "connection": "close"},
                timeout=urllib3.Timeout(connect=limits.get("connect"), read=limits.get("read")),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        return httpx2.Response(response.status, headers=list(response.headers.items()), stream=_Body(response))

    def close(self) -> None:
        for manager in (self._direct, *self._by_proxy.values()):
            manager.clear()


class _Body(httpx2.SyncByteStream):
    """An answer's bytes, as they come."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._chunks() if getattr(self._response, "chunked", False) else self._plain()

    def _plain(self) -> Iterator[bytes]:
        while data := self._response.read1(_READ_BYTES, decode_content=False):
            yield data

    def _chunks(self) -> Iterator[bytes]:
        """Past urllib3 and `http.client`, which read a chunk's size, data and end one by one."""
        chunks = Chunks()
        read = self._response._fp.fp.read1  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to it
        while not chunks.ended:
            data = read(_READ_BYTES)
            if not data:
                raise httpx2.RemoteProtocolError("the connection ended within the answer")
            if piece := chunks.feed(data):
                yield piece

    def close(self) -> None:
        self._response.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise httpx's exceptions for urllib3's: the SDKs know no others."""
    try:
        yield
    except (exceptions.ConnectTimeoutError, exceptions.NewConnectionError) as exc:
        late = not isinstance(exc, exceptions.NewConnectionError)
        raise (httpx2.ConnectTimeout if late else httpx2.ConnectError)(_reason(exc)) from exc
    except exceptions.ReadTimeoutError as exc:
        raise httpx2.ReadTimeout(_reason(exc)) from exc
    except exceptions.SSLError as exc:
        raise httpx2.ConnectError(_reason(exc)) from exc
    except exceptions.ProxyError as exc:
        raise httpx2.ProxyError(_reason(exc)) from exc
    except exceptions.ProtocolError as exc:
        raise httpx2.RemoteProtocolError(_reason(exc)) from exc
    except exceptions.HTTPError as exc:
        raise httpx2.TransportError(_reason(exc)) from exc
    except ChunkError as exc:
        raise httpx2.RemoteProtocolError(str(exc)) from exc
    except TimeoutError as exc:
        raise httpx2.ReadTimeout(str(exc)) from exc
    except OSError as exc:
        raise httpx2.ReadError(str(exc)) from exc


def _reason(exc: Exception) -> str:
    """What the system said: urllib3's own words hold names of classes and objects."""
    return str(exc.__cause__ or exc)


def _pool_classes(on_socket: OnSocket) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """urllib3's pools, of connections that tell of their sockets."""

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            made = super()._new_conn()
            on_socket(made)
            return made

    class SecureConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            made = super()._new_conn()
            on_socket(made)
            return made

        def connect(self) -> None:
            super().connect()
            if self.sock is not None:
                on_socket(self.sock)

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}
