"""Which addresses a webhook may be sent to: public ones, whatever form they are written in."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

# Reach the cloud's own services from public-looking addresses.
_METADATA = (IPv4Address("168.63.129.16"), IPv4Address("100.100.100.200"), IPv6Address("fd00:ec2::254"))
# IPv6 networks that stand for IPv4 ones, and how many bits the IPv4 address is from the right.
_EMBEDDED = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
# Beyond what the standard library calls global, in all its versions.
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    *(
        IPv4Network(text)
        for text in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4")
    ),
    *(IPv6Network(text) for text in ("64:ff9b:1::/48", "2001::/23", "100::/64", "fec0::/10", "5f00::/16")),
)


def literal(host: str) -> Address | None:
    """The address that a host name is, in any of the forms that resolvers take (`127.1`, `0x7f000001`, `017700000001`),
    or None."""
    host = host.strip("[]").partition("%")[0]
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if host and host[0].isdigit() else None
    except (OSError, UnicodeEncodeError):
        return None


def refusal(address: Address, *, private: bool) -> str | None:
    """Why nothing is sent to this address, None if it may be. `private`: loopback and private networks are allowed;
    link-local addresses, where clouds keep their metadata, never are."""
    if isinstance(address, IPv6Address):
        for network, shift in _EMBEDDED:
            if address in network and int(address) > 1:
                return refusal(IPv4Address(int(address) >> shift & 0xFFFFFFFF), private=private)
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return "blocked IP range"
    if address.is_loopback:
        return None if private else "loopback IP range"
    if not any(address in network for network in _SPECIAL if network.version == address.version) and address.is_global:
        return None
    return None if private and address.is_private and not address.is_reserved else "blocked IP range"
