"""The names by which a server may be called, and the pages that may use it. Pure.

With DNS rebinding, a foreign name leads to our address; to a browser, the foreign page is then of the same origin. So a
server answers only to names that it knows. An IP address cannot be rebound, and neither can ``localhost``;
``ALLOWED_HOSTS`` lists other names. A page may use a server if its origin is the server itself, *with the port*, or
stands in ``ALLOWED_ORIGINS``. Clients that are not browsers send no origin.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOOPBACK = "localhost"


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names that are allowed, ``name`` or ``name:port``, and origins of other sites' pages."""

    names: frozenset[str] = field(default_factory=frozenset)
    origins: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, names: Iterable[str], origins: Iterable[str] = ()) -> "Hosts":
        """Make one from settings."""
        return cls(
            frozenset(one.lower().rstrip(".") for one in names), frozenset(one.lower().rstrip("/") for one in origins)
        )

    def knows(self, host: str) -> bool:
        """Whether the server has this name, in the form of a ``Host`` header."""
        parsed = _parsed(f"//{host}")
        if parsed is None:
            return False
        name, port = parsed
        if name == LOOPBACK or name.endswith(f".{LOOPBACK}") or is_numeric(name) or name in self.names:
            return True
        return port is not None and f"{name}:{port}" in self.names

    def lets(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may use the server that it called by this name."""
        return origin.lower() in self.origins or self.is_same(origin, host)

    @staticmethod
    def is_same(origin: str, host: str) -> bool:
        """Whether the origin is the server itself."""
        page = _parsed(origin)
        own = _parsed(f"{origin.partition(':')[0]}://{host}")
        return page is not None and page == own


_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def _parsed(url: str) -> tuple[str, int | None] | None:
    """The name and the port of an address; the port that belongs to its scheme, if it names none."""
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None:
            return None
        return parts.hostname.lower().rstrip("."), parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None


def is_numeric(name: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address."""
    try:
        return host == LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
