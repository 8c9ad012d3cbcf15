"""An identity and its rights. Pure.

- ``publish``: publish events.
- ``read``: read events, letters, health with its reasons, metrics and the stream.
- ``read:payload``: read payload fields that ``REDACT`` masks.
- ``operate``: replay, archive, restore, mark drills.
- ``vouch``: for a proxy that signs people in: it says who asks, and has no rights of its own.
- ``admin``: all of these but ``read:payload`` and ``vouch``. To keep a system running, nobody needs to see payloads.

An identity without groups may act in each group. One that names groups may act in no other. A stream client reports
what its group has read, and retention follows these reports. So only an identity that names the group, or may
``operate``, may report.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from unlost.ops.kit.access.limits import NONE, Limits

Right = Literal["publish", "read", "read:payload", "operate", "vouch", "admin"]
EXPLICIT: frozenset[Right] = frozenset({"read:payload", "vouch"})
"""Rights that no other right includes."""
RIGHTS: tuple[Right, ...] = get_args(Right)


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or a machine that is known by a token or a certificate."""

    name: str
    rights: frozenset[Right]
    groups: frozenset[str] = frozenset()
    limits: Limits = NONE

    def may(self, right: Right) -> bool:
        """Whether it has this right."""
        return right in self.rights or ("admin" in self.rights and right not in EXPLICIT)

    def is_of(self, group: str) -> bool:
        """Whether it may act in this group."""
        return not self.groups or group in self.groups

    def may_report(self, group: str) -> bool:
        """Whether a stream client may say what this group has read."""
        return group in self.groups or (not self.groups and self.may("operate"))


ANYBODY = Identity("anybody", frozenset({"admin"}))
"""The identity of every client of a server without tokens."""
