"""Sessions of people who have signed in, for their browsers. No input or output; their memory is bounded.

A session is known by 256 random bits in a cookie. Only its digest is kept, so the time of a look-up reveals nothing
that helps. A session ends when the person signs out, after ``LIFETIME``, and with the process. Nothing prolongs it:
groups are read at the sign-in alone, so its length bounds how long somebody stays in a group that the provider took
away. The rights of the groups are looked up at each request (``gate.py``).
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from unlost.ops.kit.access.request import Person

LIFETIME = 3600
"""Seconds."""
MOST, MOST_OF_ONE = 10_000, 10
"""Sessions of all people, and of one person. Of too many, the oldest ends."""
COOKIE = "unlost"
HOST_COOKIE = f"__Host-{COOKIE}"
"""Browsers take a cookie of this name from the host itself alone, by HTTPS."""
_form = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class _Session:
    person: Person
    until: float


class Sessions:
    """The people who have signed in."""

    def __init__(self, clock: Callable[[], float], *, secure: bool = True) -> None:
        """``secure``: browsers send the cookie by HTTPS alone."""
        self._clock = clock
        self.secure = secure
        self.cookie = HOST_COOKIE if secure else COOKIE
        self._of: OrderedDict[bytes, _Session] = OrderedDict()
        """By digest, the oldest first."""

    def __len__(self) -> int:
        return len(self._of)

    def begin(self, person: Person) -> str:
        """Begin a session; return what its cookie holds."""
        now = self._clock()
        for digest in [one for one, session in self._of.items() if session.until <= now]:
            del self._of[digest]
        theirs = [one for one, session in self._of.items() if session.person.user == person.user]
        for digest in theirs[: max(0, len(theirs) - MOST_OF_ONE + 1)]:
            del self._of[digest]
        while len(self._of) >= MOST:
            self._of.popitem(last=False)
        made = secrets.token_urlsafe(32)
        self._of[_digest(made)] = _Session(person, now + LIFETIME)
        return made

    def person_of(self, session: str) -> Person | None:
        """Return the person who has this session; None if it has ended, or never was."""
        if not _form.fullmatch(session):
            return None
        found = self._of.get(_digest(session))
        return found.person if found is not None and self._clock() < found.until else None

    def end(self, session: str) -> Person | None:
        """End it; return whose it was."""
        person = self.person_of(session)
        self._of.pop(_digest(session), None)
        return person


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("utf-8", "replace")).digest()
