"""The store's mark: which store PostgreSQL is, and how far it has come. Pure.

PostgreSQL can go back: it is restored from a backup, or a standby is promoted that lacks commits. Then rows are gone
that peers and Redis remember as stored, and a saved cursor may stand behind events that are no rows any more.

``generation`` and ``version`` are a durable row. Each listener that knows the store raises the version twice a second,
and no other does. A version below one that was seen before tells that the store went back; whoever notices replaces the
generation. A listener that starts asks Redis how far the generation had come, and replaces one that Redis does not
know.
``incarnation`` is the claims table's, which is unlogged: a crash, a promotion or a restored data directory changes it.
"""

import hashlib
from typing import Literal

import msgspec

Change = Literal["none", "back", "other"]


class StoreMark(msgspec.Struct, frozen=True):
    """What one look at PostgreSQL showed."""

    generation: str
    version: int
    incarnation: str

    @property
    def name(self) -> str:
        """What Redis files its memory under: nothing remembered of one store is believed of another."""
        return hashlib.blake2b(f"{self.generation} {self.incarnation}".encode(), digest_size=4).hexdigest()


class Remembered(msgspec.Struct, frozen=True):
    """What Redis knows of a generation of the store: how far it had come, and its name then."""

    version: int
    name: str


def change(known: StoreMark | None, seen: StoreMark) -> Change:
    """What has become of the store since it was seen last. ``back``: it has come less far."""
    if known is None:
        return "none"
    if seen.version < known.version:
        return "back"
    return "none" if seen.name == known.name else "other"
