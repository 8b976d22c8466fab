"""One POST to a receiver: to the checked address, with bounds on all of it, and no redirect followed."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from opencode.errors import WebhookFailed
from opencode.records import Webhook
from opencode.version import VERSION
from opencode.webhook import addresses
from opencode.webhook.signature import sign

#: For connecting, and for each wait after it; and for all of it together.
_WAIT_S = 10.0
_WHOLE_S = 30.0
_SUCCESS = range(200, 300)


class _Connection(http.client.HTTPConnection):
    """Connects to `address`, whatever the host's name means by now."""

    def __init__(self, target: addresses.Target, address: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(target.host, target.port, timeout=_WAIT_S)
        self._address = address
        self._tls = tls
        self.default_port = 443 if tls is not None else 80  # of `Host`, which names other ports only

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), _WAIT_S)
        if self._tls is not None:
            # Two steps, so that `cut` reaches it in between: a handshake can be drawn out.
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()

    def cut(self) -> None:
        """End it from another thread."""
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Poster:
    """Posts to the URLs of the settings, signed. `whole_s` bounds one POST, in seconds."""

    def __init__(
        self,
        targets: Mapping[str, addresses.Target],
        allowed: addresses.Allowed,
        key: bytes,
        *,
        whole_s: float = _WHOLE_S,
    ) -> None:
        self._targets = targets
        self._allowed = allowed
        self._key = key
        self._whole_s = whole_s
        self._lock = threading.Lock()
        self._open: _Connection | None = None

    def __call__(self, webhook: Webhook) -> None:
        """Post it once.

        Raises:
            WebhookFailed: it did not arrive; asking again may help. The message names no path: it may hold a secret.
        """
        target = self._targets.get(webhook.url)
        if target is None:
            raise WebhookFailed("its URL is no longer in OPENCODE_WEBHOOK_URLS", final=True)
        try:
            status = self._post(target, webhook)
        except (OSError, http.client.HTTPException, addresses.Refused, ValueError) as exc:
            raise WebhookFailed(f"{target.host}: {exc or type(exc).__name__}") from exc
        if status not in _SUCCESS:
            raise WebhookFailed(f"{target.host} answered {status}")

    def _post(self, target: addresses.Target, webhook: Webhook) -> int:
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"opencode/{VERSION}",
            "webhook-id": webhook.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._key, webhook.id, now, webhook.body),
        }
        tls = ssl.create_default_context() if target.scheme == "https" else None
        connection = _Connection(target, addresses.resolve(target, self._allowed), tls)
        timer = threading.Timer(self._whole_s, connection.cut)
        timer.daemon = True
        with self._lock:
            self._open = connection
        timer.start()
        try:
            connection.request("POST", target.path, webhook.body, headers)
            with connection.getresponse() as response:
                return response.status
        finally:
            timer.cancel()
            connection.close()
            with self._lock:
                self._open = None

    def cut(self) -> None:
        """End the POST that is under way, if there is one."""
        with self._lock:
            if self._open is not None:
                self._open.cut()
