"""Where webhooks may go: public addresses, and what the settings list. Names are looked up anew each time."""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from opencode.errors import SettingsError
from opencode.origins import is_address

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: IPv4 addresses in the dress of IPv6 ones (RFC 6052): a gateway leads to what is inside.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: All that is given out to the Internet (RFC 4291, IANA). The rest holds further such dresses, and local addresses.
_UNICAST = ipaddress.ip_network("2000::/3")
_NETWORK_FORM = "a host name, an address, or a network such as 10.1.0.0/16"


class Refused(Exception):
    """The address is not allowed."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Names and networks that may be called although they are not public."""

    names: frozenset[str]
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def read(cls, entries: tuple[str, ...]) -> "Allowed":
        """Read OPENCODE_WEBHOOK_ALLOW.

        Raises:
            SettingsError: an entry is a network with bits beside its mask, or none at all.
        """
        names, networks = set(), []
        for entry in entries:
            if "/" not in entry and not is_address(entry):
                names.add(entry.lower())
                continue
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError as exc:
                raise SettingsError(f"OPENCODE_WEBHOOK_ALLOW: {entry!r} must be {_NETWORK_FORM}: {exc}.") from None
        return cls(frozenset(names), tuple(networks))

    def has(self, address: _Address) -> bool:
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, in its parts."""

    scheme: str
    host: str
    port: int
    path: str


def target(url: str, allowed: Allowed) -> Target:
    """Read a URL of OPENCODE_WEBHOOK_URLS.

    Raises:
        SettingsError: it is none that a webhook could go to.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError(f"OPENCODE_WEBHOOK_URLS: {url[:200]!r} is no URL.") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.password or parts.fragment:
        raise SettingsError("OPENCODE_WEBHOOK_URLS must be URLs such as https://name/path, without user and fragment.")
    listed = host in allowed.names or (is_address(host) and allowed.has(ipaddress.ip_address(host)))
    if parts.scheme == "http" and not listed:
        raise SettingsError(
            f"OPENCODE_WEBHOOK_URLS: http://{host} would send what sessions say unencrypted. Use https, or list it in"
            " OPENCODE_WEBHOOK_ALLOW."
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def resolve(target: Target, allowed: Allowed) -> str:
    """The address to connect to. Whoever connects uses it and asks no more: the name may mean another by then.

    Raises:
        Refused: the name means an address that is neither public nor listed; if one of several is, none is used.
        OSError: the name means nothing.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]).partition("%")[0] for _, _, _, _, place in found]
    for address in addresses:
        own = ipaddress.ip_address(address)
        if target.host not in allowed.names and not allowed.has(own) and not is_public(own):
            raise Refused(f"{target.host} is {address}, which is not public; OPENCODE_WEBHOOK_ALLOW does not list it")
    return addresses[0]


def is_public(address: _Address) -> bool:
    """Whether it is one of the Internet's: none of this machine, this network, or of no single machine."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(inside)
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast
