"""Where effects may go: which hosts, and which of their addresses. Pure.

A name may lead to any address, also to one inside our own network. So both are checked: the name against
``EFFECT_HOSTS``, and each address that it has. A private address is allowed only if ``EFFECT_NETWORKS`` names it.
"""

import ipaddress
from dataclasses import dataclass
from typing import Self

from unlost.listener.core.effects import EffectRefused, named, origin_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Place = tuple[str, str, int]
"""Scheme, host, port."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Hosts that are allowed, and private networks. ``*`` in place of a host stands for all."""

    places: frozenset[Place] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, hosts: str, networks: str = "") -> Self:
        """Read the settings; ``ValueError`` says what is wrong."""
        return cls(frozenset(map(_place, hosts.split())), tuple(ipaddress.ip_network(one) for one in networks.split()))

    def check(self, url: str) -> Place:
        """Return where a URL leads; raise ``EffectRefused`` if effects may not go there."""
        scheme, host, port = origin_of(url)
        _, *rest = host.split(".")
        wild = [f"*.{'.'.join(rest[n:])}" for n in range(len(rest))]
        if not any((scheme, name, port) in self.places for name in (host, *wild, "*")):
            secure = "" if scheme == "https" else "http://"
            where = named((scheme, host, port))
            raise EffectRefused(f"effects may not go to {secure}{where}: it is not in EFFECT_HOSTS")
        return scheme, host, port

    def may_call(self, address: str) -> bool:
        """Return whether an address that a host has may be connected to."""
        try:
            found = _embedded(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        if any(found in one for one in self.networks):
            return True
        return found.is_global and not found.is_multicast and not found.is_reserved


def _place(entry: str) -> Place:
    url = entry if "://" in entry else f"https://{entry}"
    try:
        scheme, host, port = origin_of(url)
    except EffectRefused as error:
        raise ValueError(f"{entry!r}: {error}") from None
    if url.partition("://")[2].strip("/").count("/"):
        raise ValueError(f"{entry!r}: a host has no path")
    if "*" in host.removeprefix("*") or (host.startswith("*") and host != "*" and not host.startswith("*.")):
        raise ValueError(f"{entry!r}: * stands only for the first part of a name, as in *.example.com")
    return scheme, host, port


def _embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, if it is such a one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address
