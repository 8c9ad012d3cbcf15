"""Slows down an address that tries wrong tokens. No input or output; its memory is bounded.

After some failures, each further one locks the address for twice as long as the one before. A locked address gets a
429, without a log line for each attempt. A valid token passes even while its address is locked, since several clients
may share an address: one of them must not lock out the others. A signature is compared only with the body, so signed
requests of a locked address are refused before that is read.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

FREE = 10
"""Failures without a lock: a client with an old token may try again after a restart."""
FIRST, LONGEST = 1.0, 300.0
FORGET = 900.0
MOST_ADDRESSES = 4_096


class Lockout:
    """The failures of each address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        """By address: how many, when the last one was, and until when it is locked. The last to fail is at the end."""

    def __len__(self) -> int:
        return len(self._failures)

    def locked_for(self, address: str) -> float:
        """Seconds for which the address is still locked, or 0."""
        _, _, until = self._failures.get(network_of(address), (0, 0.0, 0.0))
        return max(0.0, until - self._clock())

    def failed(self, address: str) -> None:
        """Count a wrong token from this address."""
        now, network = self._clock(), network_of(address)
        count, last, _ = self._failures.pop(network, (0, now, 0.0))
        count = 1 if now - last > FORGET else count + 1
        while len(self._failures) >= MOST_ADDRESSES:
            self._failures.popitem(last=False)
        self._failures[network] = (count, now, now + lock_seconds(count))


def lock_seconds(failures: int) -> float:
    """How long an address is locked after this many failures."""
    return 0.0 if failures <= FREE else min(LONGEST, FIRST * 2.0 ** min(failures - FREE - 1, 30))


def network_of(address: str) -> str:
    """Return the part that counts as one address: all of IPv4, and the half of IPv6 that one customer gets."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False).network_address)
    return address
