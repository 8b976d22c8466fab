"""Signatures as Standard Webhooks has them (https://www.standardwebhooks.com): receivers can use its libraries."""

import base64
import binascii
import hashlib
import hmac

from opencode.errors import SettingsError

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)


def key_of(secret: str) -> bytes:
    """The key in a secret.

    Raises:
        SettingsError: it is not of the form; the message says how to make one.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
        raise SettingsError(
            "OPENCODE_WEBHOOK_SECRET must be whsec_ and 24 to 64 random bytes in base64. To make one:"
            " echo whsec_$(head -c 32 /dev/urandom | base64 -w0)"
        )
    return key


def sign(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: HMAC-SHA256 over id, time (seconds since the epoch) and body."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
