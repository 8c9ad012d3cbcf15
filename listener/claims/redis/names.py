"""Names of records in Redis, and proofs that a listener wrote them. Pure.

Without a secret, a settled record holds the beginning of the content's digest, and is believed. With a secret that the
listeners of a group share, BLAKE2b of a key and the id makes the record's name, and a mask. A settled record then holds
that digest, masked, and a proof: BLAKE2b of a key of the verdict, the name and the digest. So nobody can make it from
another record, from an earlier state of the same one, or from the record of other content. Somebody who can write to
Redis, or answers in its place, cannot make an event look settled.

The keys depend on the group and the store too, so a record from before PostgreSQL went back proves nothing.

Each hash begins with its key. A copy of that beginning takes a third less time than a new hash.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from unlost.listener.core.claim import Verdict

STATES: dict[Verdict, bytes] = {"done": b"D", "dead": b"X"}
NAME, PART = 16, 8
"""Bytes of a name; and of each part of a settled record, after its state."""
KEPT = 8 * 1_024
"""How many names are cached, from claiming to settling."""
Begun = Callable[[], "hashlib.blake2b"]
FORM = b"2"
"""Counts how names and proofs are made. Another form is another place."""


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

    def settled(self, event_ids: Sequence[str], digests: Sequence[bytes], verdict: Verdict) -> list[bytes]:
        """Return the columns that settled records hold. Each digest has ``PART`` bytes."""
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

    def settled(self, event_ids: Sequence[str], digests: Sequence[bytes], verdict: Verdict) -> list[bytes]:  # noqa: ARG002
        """See ``Names``."""
        return [b"".join(digests), b""]

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
        self.suffix = "#" + _hashed(secret, b"place" + FORM, group)[:4].hex()
        begun = _begun(_hashed(key, b"name", b""), NAME + PART)
        self._made = functools.lru_cache(KEPT)(functools.partial(_name_and_mask, begun))
        self._proofs: dict[Verdict, Begun] = {
            verdict: _begun(_hashed(key, b"proof", state), PART) for verdict, state in STATES.items()
        }

    def under(self, store: bytes) -> Names:
        """See ``Names``."""
        return ProvenNames(self._secret, self._group, store)

    def of(self, event_ids: Sequence[str]) -> list[bytes]:
        """See ``Names``."""
        return [name for name, _ in map(self._made, event_ids)]

    def settled(self, event_ids: Sequence[str], digests: Sequence[bytes], verdict: Verdict) -> list[bytes]:
        """See ``Names``."""
        begun, masks, proofs = self._proofs[verdict], [], []
        for (name, mask), digest in zip(map(self._made, event_ids), digests, strict=True):
            masks.append(mask)
            proofs.append(_proof(begun, name, digest))
        return [_masked(b"".join(digests), b"".join(masks)), b"".join(proofs)]

    def same(self, event_id: str, digest: bytes, verdict: Verdict, record: bytes) -> bool | None:
        """See ``Names``."""
        name, mask = self._made(event_id)
        if len(record) != 2 * PART:
            return None
        of = _masked(record[:PART], mask)
        return of == digest[:PART] if record[PART:] == _proof(self._proofs[verdict], name, of) else None


def names_for(secret: str, group: bytes) -> Names:
    """The names of a group's records."""
    return ProvenNames(_hashed(secret.encode(), b"", b""), group) if secret else PlainNames()


def _begun(beginning: bytes, size: int) -> Begun:
    """A hash that has read its beginning: each copy goes on from there."""
    return hashlib.blake2b(beginning, digest_size=size).copy


_plain_names = _begun(b"", NAME)


def _plain(event_id: str) -> bytes:
    hashed = _plain_names()
    hashed.update(event_id.encode())
    return hashed.digest()


def _name_and_mask(begun: Begun, event_id: str) -> tuple[bytes, bytes]:
    hashed = begun()
    hashed.update(event_id.encode())
    made = hashed.digest()
    return made[:NAME], made[NAME:]


def _proof(begun: Begun, name: bytes, digest: bytes) -> bytes:
    """The proof that a record of this content is ours. Both have one length."""
    hashed = begun()
    hashed.update(name)
    hashed.update(digest)
    return hashed.digest()


def _hashed(secret: bytes, what: bytes, of: bytes) -> bytes:
    return hashlib.blake2b(b"%d.%b.%b%b" % (len(secret), what, secret, of), digest_size=32).digest()


def _masked(data: bytes, mask: bytes) -> bytes:
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))
