"""The file of tokens: one JSON object a line. It holds SHA-256 digests, so that reading it gives nobody a token. Pure.

A token has 256 random bits, so it cannot be guessed, and a fast hash is enough. It is found by its digest, the key of a
dictionary, and the digests are compared in constant time. The time of the
look-up reveals only something about digests, and nobody can choose a token with a digest near to another.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from unlost.ops.kit.access.identity import Identity, Right
from unlost.ops.kit.access.limits import NONE, Limits
from unlost.ops.kit.access.watched_file import Unusable

MOST_TOKENS = 10_000
MOST_BYTES = 8 * 1024 * 1024
OF_GROUP = "group:"
"""Begins a subject that is a group of people. That of a certificate has a ``=`` before any other sign."""
BEGINS = "unlost_"
"""Lets people and scanners for leaked secrets recognise a token."""
NO_DIGEST = bytes(32)
_form = re.compile(rf"{BEGINS}[A-Za-z0-9_-]{{43}}")
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9@._:/-]{1,128}\Z")]
Group = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]


class TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the file. It has a digest, or the subject of a client certificate, or both."""

    name: Name
    rights: Annotated[tuple[Right, ...], msgspec.Meta(min_length=1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] = ""
    subject: Annotated[str, msgspec.Meta(max_length=512)] = ""
    groups: tuple[Group, ...] = ()
    created: str = ""
    limits: Limits = NONE

    @property
    def identity(self) -> Identity:
        """The identity that has this token."""
        return Identity(self.name, frozenset(self.rights), frozenset(self.groups), self.limits)


class WrongTokens(Unusable):
    """The tokens cannot be used, for the reason that the message gives."""


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Identities by digest, and by the subject of a certificate."""

    by_digest: Mapping[bytes, tuple[bytes, Identity]] = field(default_factory=dict)
    by_subject: Mapping[str, Identity] = field(default_factory=dict)
    by_group: Mapping[str, Identity] = field(default_factory=dict)
    """Rights of groups of people, whom a proxy signs in."""

    def of_token(self, token: str) -> Identity | None:
        """Return the identity with this token."""
        if not _form.fullmatch(token):
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known, identity = self.by_digest.get(digest, (NO_DIGEST, None))
        return identity if hmac.compare_digest(known, digest) else None

    def of_person(self, name: str, groups: Iterable[str], *, within: str | None) -> Identity:
        """Return the identity of a person for whom a proxy vouches: it has the rights of all groups that are known.

        ``within``: the group of the process. Rights of a group of people elsewhere are none here.
        """
        known = [self.by_group[one] for one in groups if one in self.by_group]
        found = [one for one in known if within is None or one.is_of(within)]
        rights = frozenset(right for one in found for right in one.rights if right != "vouch")
        if any(not one.groups for one in found):
            return Identity(name, rights)
        return Identity(name, rights, frozenset[str]().union(*(one.groups for one in found)))

    @property
    def names(self) -> frozenset[str]:
        """The names of all identities."""
        known = (*(identity for _, identity in self.by_digest.values()), *self.by_subject.values())
        return frozenset(one.name for one in known)

    def of_subject(self, subject: str) -> Identity | None:
        """Return the identity with this subject in its certificate."""
        return self.by_subject.get(subject)


def new_token() -> str:
    """A new token."""
    return BEGINS + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """The digest of a token, as the file has it."""
    return hashlib.sha256(token.encode()).hexdigest()


_entry = msgspec.json.Decoder(TokenEntry)


def read_entries(content: bytes) -> list[TokenEntry]:
    """Read the lines of the file. Raises ``WrongTokens`` with the line that is wrong."""
    entries = [
        _read_entry(number, line)
        for number, line in enumerate(content.splitlines(), 1)
        if line.strip() and not line.startswith(b"#")
    ]
    if len(entries) > MOST_TOKENS:
        raise WrongTokens(f"it has {len(entries):,} tokens, {MOST_TOKENS:,} at most are allowed")
    return entries


def _read_entry(number: int, line: bytes) -> TokenEntry:
    try:
        entry = _entry.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise WrongTokens(f"line {number}: {error}") from None
    if not entry.sha256 and not entry.subject:
        raise WrongTokens(f"line {number}: {entry.name} has neither sha256 nor subject")
    return entry


def table_of(entries: Iterable[TokenEntry]) -> TokenTable:
    """Make the table. Raises ``WrongTokens`` if a name, a digest or a subject occurs twice."""
    entries = list(entries)
    for what in ("name", "sha256", "subject"):
        if twice := _twice([getattr(one, what) for one in entries]):
            raise WrongTokens(f"{what} {twice} occurs twice")
    return TokenTable(
        {digest: (digest, one.identity) for one in entries if (digest := bytes.fromhex(one.sha256))},
        {one.subject: one.identity for one in entries if one.subject and not one.subject.startswith(OF_GROUP)},
        {one.subject.removeprefix(OF_GROUP): one.identity for one in entries if one.subject.startswith(OF_GROUP)},
    )


def _twice(values: list[str]) -> str:
    seen: set[str] = set()
    for value in values:
        if value and value in seen:
            return value
        seen.add(value)
    return ""


def written(entries: Iterable[TokenEntry]) -> bytes:
    """The content of the file."""
    return b"".join(msgspec.json.encode(one) + b"\n" for one in entries)
