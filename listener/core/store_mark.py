"""The store's mark: which history of PostgreSQL this is, and how far it has come. Pure.

PostgreSQL can go back: it is restored from a backup, or a standby without the latest commits is promoted. Then rows are
missing that peers and Redis remember as stored, and a saved cursor may stand behind events that are no longer rows.

``generation`` and ``version`` are one durable row. Only listeners that know the store raise the version, each twice a
second. A version below one seen before shows that the store went back, and the listener that notices it replaces the
generation. A listener that starts asks Redis how far the generation had come. It replaces a generation that Redis does
not know, in the same way as an unconfirmed one. ``incarnation`` belongs to the claims table, which is unlogged: a
crash, a promotion or a restored data directory changes it.
"""

import hashlib
from functools import lru_cache
from typing import Literal

import msgspec

Change = Literal["none", "back", "other"]
UNCONFIRMED = "unconfirmed-"
"""How a generation begins that was made because nobody could confirm the store, not because it went back."""


class StoreMark(msgspec.Struct, frozen=True):
    """The store's mark as it was read from PostgreSQL at one moment."""

    generation: str
    version: int
    incarnation: str

    @property
    def unconfirmed(self) -> bool:
        """Whether this generation was begun although nothing showed that the store went back."""
        return self.generation.startswith(UNCONFIRMED)

    @property
    def name(self) -> str:
        """The name under which Redis keeps what it knows of this store. It is not believed of any other store."""
        return _named(self.generation, self.incarnation)


@lru_cache(maxsize=8)
def _named(generation: str, incarnation: str) -> str:
    return hashlib.blake2b(f"{generation} {incarnation}".encode(), digest_size=4).hexdigest()


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


def has_restarted(known: StoreMark | None, seen: StoreMark) -> bool:
    """Whether it is the store seen last with an empty claims table, as after a crash."""
    return known is not None and seen.generation == known.generation and seen.incarnation != known.incarnation
