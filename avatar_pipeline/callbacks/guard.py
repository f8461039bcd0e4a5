"""Where webhooks may go: a URL comes from a stranger, and must not make us knock at doors inside our own network."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, unquote, urlsplit

from avatar_pipeline.errors import AvatarError, InvalidInput

Resolver = Callable[[str], Sequence[str]]
"""Turns a host name into addresses. Raises OSError where the name is not known, or nobody could be asked."""

# What Python (3.11 and later differ) takes for global, and is no receiver's address.
_REFUSED_V4 = (
    IPv4Network("100.64.0.0/10"),  # carrier-grade NAT, and the metadata service of Alibaba Cloud
    IPv4Network("192.0.0.0/24"),  # protocol assignments, and the metadata service of Oracle Cloud
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("168.63.129.16/32"),  # Azure's host: a public address, answered by the machine one runs on
)
# https://www.iana.org/assignments/ipv6-address-space: only this much is handed out as global unicast. Everything
# else (link-local, unique and site local, multicast, IPv4-compatible and -translated, ...) is out with one line.
_UNICAST_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = (
    IPv6Network("2001::/23"),  # Teredo, ORCHID, benchmarking
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4: holds any IPv4 address
    IPv6Network("3fff::/20"),  # documentation
)
_NAT64 = IPv6Network("64:ff9b::/96")

_PATH_SAFE = "/%:@!$&'()*+,;=~-._"


class CallbackRefused(InvalidInput):
    """A webhook may not go where its URL leads, and never will; trying again is of no use."""

    code = "callback_refused"


class ReceiverUnreachable(AvatarError):
    """Nobody answered a webhook this time: no such name, no connection, no trusted certificate, no answer in time."""

    code = "receiver_unreachable"

    def __init__(self, host: str, why: str, *, connected: bool) -> None:
        super().__init__(f"The receiver {host} {why}.", remedy="It is tried again by itself, for about three days.")
        self.connected = connected
        """Whether there was a connection, so that only this one answer was missing, not the whole host."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart and resolved: `addresses` were checked, and only to one of them may a connection be made."""

    secure: bool
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def system_resolver(host: str) -> list[str]:
    """Ask the operating system; it knows every notation of an address too (decimal, octal, hexadecimal)."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))


def check_target(url: str, *, private: bool, resolver: Resolver = system_resolver) -> Target:
    """Resolve a URL, once, and see that it leads out of our own network, wherever its name points.

    `private` lifts that, for receivers in one's own network, and allows plain http.

    Raises:
        CallbackRefused: not https, not a usable URL, or any of its addresses is not a public one.
        ReceiverUnreachable: its name cannot be resolved now.
    """
    try:
        parts = urlsplit(url)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError as error:
        raise CallbackRefused(
            "The callback URL cannot be used: its host or port is malformed.",
            remedy="Send a URL such as https://example.com/hook.",
        ) from error
    if not host or parts.scheme not in {"http", "https"} or parts.username is not None:
        raise CallbackRefused(
            "The callback URL is not http or https, has no host, or carries credentials.",
            remedy="Send a URL such as https://example.com/hook.",
        )
    secure = parts.scheme == "https"
    if not secure and not private:
        raise CallbackRefused(
            f"The callback to {host} is not https.",
            remedy="Send an https URL; plain http is for private networks, with AVATAR_CALLBACK_PRIVATE_ADDRESSES on.",
        )
    addresses = tuple(_resolve(host, resolver))
    closed = [address for address in addresses if not is_public(address)]
    if closed and not private:
        # One is enough: a name that points both out and in is no honest receiver's.
        raise CallbackRefused(
            f"The callback to {host} leads to {closed[0]}, which is not a public address.",
            remedy="Send a URL of a public host; for receivers in one's own network set "
            "AVATAR_CALLBACK_PRIVATE_ADDRESSES.",
        )
    path = quote(parts.path or "/", safe=_PATH_SAFE) + (
        "?" + quote(parts.query, safe=_PATH_SAFE + "?") if parts.query else ""
    )
    return Target(
        secure=secure,
        host=host,
        port=port if port is not None else 443 if secure else 80,
        path=path,
        addresses=addresses,
    )


def is_public(address: str) -> bool:
    """Return whether a numeric address is one that the whole internet may have; IPv4 inside IPv6 is looked at too."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return False
        inside = ip.ipv4_mapped
        if inside is None and ip in _NAT64:
            # A network with IPv6 only reaches public IPv4 hosts so (RFC 6052).
            inside = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is None:
            return ip.is_global and ip in _UNICAST_V6 and not any(ip in network for network in _REFUSED_V6)
        ip = inside
    closed = ip.is_multicast or ip.is_reserved or ip.is_unspecified or any(ip in network for network in _REFUSED_V4)
    return ip.is_global and not closed


def _ascii(host: str) -> str:
    """Return a host as it stands in DNS, certificates and headers: lower case, IDNA, no final full stop."""
    if ":" in host:
        return unquote(host)  # a zone's per cent sign is escaped in a URL (RFC 6874)
    return host.encode("idna").decode("ascii").lower().removesuffix(".")


def _resolve(host: str, resolver: Resolver) -> Sequence[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass  # it is a name, or an address in another notation
    try:
        found = resolver(host)
    except (OSError, UnicodeError) as error:
        raise ReceiverUnreachable(host, "cannot be found in DNS", connected=False) from error
    if not found:
        raise ReceiverUnreachable(host, "has no address in DNS", connected=False)
    return found
