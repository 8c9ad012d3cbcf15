"""Addresses that may name several hosts, as those of PostgreSQL, Redis and brokers do.

``urlsplit`` of the standard library reads them too, but newer versions refuse an IPv6 address behind another host.
"""

import re
from urllib.parse import SplitResult, urlsplit

_HOSTS = re.compile(r"(?P<scheme>[^:/?#]+://)(?P<netloc>[^/?#]*)(?P<rest>.*)", re.DOTALL)


def split_address(url: str) -> SplitResult:
    """Return the parts of an address; ``netloc`` has all hosts. ``ValueError`` if one of them cannot be read."""
    found = _HOSTS.match(url)
    if found is None:
        return urlsplit(url)
    login, at, hosts = found["netloc"].rpartition("@")
    for host in hosts.split(","):
        urlsplit(f"//{login}{at}{host}")
    return urlsplit(f"{found['scheme']}{found['rest']}")._replace(netloc=found["netloc"])
