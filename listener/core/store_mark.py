"""The store's mark: which store PostgreSQL is, and how far it has come. Pure.

PostgreSQL can go back: it is restored from a backup, or a standby without the latest commits is promoted. Then rows are
missing that peers and Redis remember as stored, and a saved cursor may stand behind events that are no longer rows.

``generation`` and ``version`` are one durable row. Only listeners that know the store raise the version, each twice a
second. A version below one seen before shows that the store went back, and the listener that notices it replaces the
generation. A listener that starts asks Redis how far the generation had come, and replaces a generation that Redis does
not know. ``incarnation`` belongs to the claims table, which is unlogged: a crash, a promotion or a restored data
directory changes it.
"""

import hashlib
from typing import Literal

import msgspec

Change = Literal["none", "back", "other"]


class StoreMark(msgspec.Struct, frozen=True):
    """The store as one look at PostgreSQL showed it."""

    generation: str
    version: int
    incarnation: str

    @property
    def name(self) -> str:
        """The name under which Redis files its memory. Nothing remembered of one store is believed of another."""
        return hashlib.blake2b(f"{self.generation} {self.incarnation}".encode(), digest_size=4).hexdigest()


class Remembered(msgspec.Struct, frozen=True):
    """The last known state of a generation in Redis: its version, and the store's name then."""

    version: int
    name: str


def change(known: StoreMark | None, seen: StoreMark) -> Change:
    """Compare the store with the one seen last. ``back``: its version is lower."""
    if known is None:
        return "none"
    if seen.version < known.version:
        return "back"
    return "none" if seen.name == known.name else "other"
