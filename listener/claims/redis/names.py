"""Names of records in Redis, and proofs that a listener wrote them. Pure.

Without a secret, a settled record holds the beginning of the content's digest, and is believed. With a secret that the
listeners of a group share, BLAKE2b of a key and the id makes the record's name, and a mask and a key of each verdict. A
settled record then holds that digest, masked, and a proof: BLAKE2b of this key and the digest. So nobody can make it
from another record, from an earlier state of the same one, or from the record of other content. Somebody who can write
to Redis, or answers in its place, cannot make an event look settled.

The key depends on the group and the store too, so a record from before PostgreSQL went back proves nothing.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.claim import Verdict

STATES: dict[Verdict, bytes] = {"done": b"D", "dead": b"X"}
NAME, PART = 16, 8
"""Bytes of a name; and of each part of a settled record, after its state."""
KEPT = 8 * 1_024
"""How many names are cached, from claiming to settling."""
_PLACES: dict[Verdict, int] = {"done": NAME, "dead": NAME + 24}
"""Where the mask of a verdict begins, after the name. The key of its proofs follows, of 16 bytes."""
_ALL = 64
"""As many bytes as BLAKE2b makes at once."""

_blake = hashlib.blake2b


class Names(Protocol):
    """Names and contents of records, for one store."""

    suffix: str
    """Distinguishes places whose records have other names."""
    proves: bool
    """Whether settled records are verified."""

    def under(self, store: bytes) -> "Names":
        """Return the names of this store's records."""
        ...

    def of(self, event_ids: Sequence[str]) -> list[bytes]:
        """Return the names of these events' records, each of ``NAME`` bytes."""
        ...

    def settled(self, event_ids: Sequence[str], digests: bytes, verdict: Verdict) -> list[bytes]:
        """Return the columns that settled records hold. ``digests`` has ``PART`` bytes for each event."""
        ...

    def same(self, event_id: str, digest: bytes, verdict: Verdict, record: bytes) -> bool | None:
        """Whether this is the record of the same content, without its state. None: no listener wrote it."""
        ...


class PlainNames:
    """Names that everybody can compute. Settled records are believed."""

    suffix = ""
    proves = False

    def __init__(self) -> None:
        self._name = functools.lru_cache(KEPT)(_plain)

    def under(self, store: bytes) -> Names:  # noqa: ARG002
        """See ``Names``. The store stands in the keys, in plain text."""
        return self

    def of(self, event_ids: Sequence[str]) -> list[bytes]:
        """See ``Names``."""
        return list(map(self._name, event_ids))

    def settled(self, event_ids: Sequence[str], digests: bytes, verdict: Verdict) -> list[bytes]:  # noqa: ARG002
        """See ``Names``."""
        return [digests, b""]

    def same(self, event_id: str, digest: bytes, verdict: Verdict, record: bytes) -> bool | None:  # noqa: ARG002
        """See ``Names``."""
        return record == digest[:PART]


class ProvenNames:
    """Names and proofs that need the secret."""

    proves = True

    def __init__(self, secret: bytes, group: bytes, store: bytes = b"") -> None:
        self._secret, self._group = secret, group
        key = _hashed(_hashed(secret, b"group", group), b"store", store)
        # Another secret is another place. So listeners with different secrets obey the rule that places meet.
        self.suffix = "#" + _hashed(secret, b"suffix", group)[:4].hex()
        self._made = functools.lru_cache(KEPT)(functools.partial(_keyed, key))

    def under(self, store: bytes) -> Names:
        """See ``Names``."""
        return ProvenNames(self._secret, self._group, store)

    def of(self, event_ids: Sequence[str]) -> list[bytes]:
        """See ``Names``."""
        return [made[:NAME] for made in map(self._made, event_ids)]

    def settled(self, event_ids: Sequence[str], digests: bytes, verdict: Verdict) -> list[bytes]:
        """See ``Names``."""
        begin = _PLACES[verdict]
        key, end = begin + PART, begin + 24
        all_made = [*map(self._made, event_ids)]
        masks = b"".join([made[begin:key] for made in all_made])
        proofs = [_proof(made[key:end], digests[i * PART : i * PART + PART]) for i, made in enumerate(all_made)]
        return [_masked(digests, masks), b"".join(proofs)]

    def same(self, event_id: str, digest: bytes, verdict: Verdict, record: bytes) -> bool | None:
        """See ``Names``."""
        begin, made = _PLACES[verdict], self._made(event_id)
        if len(record) != 2 * PART:
            return None
        of = _masked(record[:PART], made[begin : begin + PART])
        return of == digest[:PART] if record[PART:] == _proof(made[begin + PART : begin + 24], of) else None


def names_for(secret: str, group: bytes) -> Names:
    """The names of a group's records."""
    return ProvenNames(_hashed(secret.encode(), b"", b""), group) if secret else PlainNames()


def _plain(event_id: str) -> bytes:
    return _blake(event_id.encode(), digest_size=NAME).digest()


def _keyed(key: bytes, event_id: str) -> bytes:
    """The name of a record, masks and keys. The key has one length and comes first: one block less to hash."""
    return _blake(key + event_id.encode(), digest_size=_ALL).digest()


def _proof(key: bytes, digest: bytes) -> bytes:
    """The proof that a record of this content is ours. Both have one length."""
    return _blake(key + digest, digest_size=PART).digest()


def _hashed(secret: bytes, what: bytes, of: bytes) -> bytes:
    return _blake(b"%d.%b.%b%b" % (len(secret), what, secret, of), digest_size=32).digest()


def _masked(data: bytes, mask: bytes) -> bytes:
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))
