"""Origins and public addresses: `scheme://host[:port]`, as browsers write them (RFC 6454)."""

import ipaddress
import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_USUAL_PORTS = {"http": 80, "https": 443}


def origin(text: str) -> str:
    """The origin that an address names, lower case, without the scheme's usual port; a closing slash is let pass.

    Raises:
        ValueError: it is no `http://` or `https://` origin, or names more than one: a path, a user, a query.
    """
    text = text.strip().lower()
    if not text.isascii() or not text.isprintable():  # of which `urlsplit` drops some silently
        raise ValueError("must be printable ASCII; browsers write names of other scripts as xn--…")
    parts = urlsplit(text)
    host = parts.netloc.removesuffix(f":{parts.port}") if parts.port is not None else parts.netloc
    if parts.scheme not in _USUAL_PORTS or not _HOST.fullmatch(host):
        raise ValueError("must be http:// or https:// and a host name")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must end after the host and its port")
    port = "" if parts.port in {None, _USUAL_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_address(name: str) -> bool:
    """Whether a host is given as an IP address, without brackets, and not by a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
