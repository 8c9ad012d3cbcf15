"""The stream as a producer knows it: its newest entry, and all timelines. Pure.

A timeline begins with an entry, which says so. A producer begins one at its start, and after any call that failed: it
may then speak to servers that know less. Other producers continue the newest timeline, whoever began it. Nothing is
written unless the stream ends where its writer believes, so each entry's timeline is at least that of the one before.
"""

import secrets
from collections.abc import Sequence

import msgspec

from unlost.producer.journal.jetstream.messages import StoredMessage
from unlost.producer.journal.timelines import Timeline, Timelines, next_timeline

RANDOM_DIGITS = 8


class Newest(msgspec.Struct, frozen=True):
    """The newest entry. ``total``: the bytes of all bodies up to its own. ``mark``: what its header says, if known."""

    number: int
    total: int
    mark: str


def base_of(identity: str, first: int) -> Timeline:
    """The timeline of what lies before the first entry that can be read.

    Where entries are gone, each start has another: its cursors must not be taken for those of another history.
    """
    random = identity[:RANDOM_DIGITS] if first <= 1 else secrets.token_hex(RANDOM_DIGITS // 2)
    return Timeline(1, random, 1)


def timelines_of(
    base: Timeline,
    copied: Sequence[Timeline],
    oldest: StoredMessage | None,
    beginnings: Sequence[StoredMessage],
) -> list[Timeline]:
    """All timelines: those of the journal that was copied, if any, and those whose first entry says so.

    If the oldest entry's timeline is none of them, every earlier timeline is gone.
    """
    known = {name_of(one) for one in copied}
    begun = [one.timeline for one in beginnings if name_of(one.timeline) not in known]
    if oldest is None or name_of(oldest.timeline) in known | {name_of(one) for one in begun}:
        return [*(copied or [base]), *begun]
    return [base, msgspec.structs.replace(oldest.timeline, first=1), *begun]


def name_of(timeline: Timeline) -> tuple[int, str]:
    """The part of a cursor that names this timeline."""
    return timeline.ordinal, timeline.random


class JetStreamHistory:
    """See the module."""

    def __init__(self, identity: str, known: Sequence[Timeline], newest: Newest, now: float) -> None:
        self.newest = newest
        self._known = list(known)
        self._begun: Timeline | None = None
        self.timelines = Timelines(identity, known)
        self.begin(now)

    def begin(self, now: float) -> None:
        """Let the next entry begin a timeline."""
        self._begun = next_timeline(self._known, self.newest.number, now)
        self._learn()

    @property
    def present(self) -> tuple[Timeline, bool]:
        """The timeline of the next entry, and whether it begins there."""
        return (self._known[-1], False) if self._begun is None else (self._begun, True)

    def grew(self, newest: Newest) -> None:
        """Entries of this producer were stored, right after the newest one."""
        self.newest = newest
        if self._begun is not None:
            self._known.append(self._begun)
            self._begun = None

    def learned(self, begun: Sequence[Timeline], newest: Newest, now: float) -> None:
        """Others have stored entries. The timelines that begin with some of them continue those that are known."""
        self._known += begun
        self.newest = newest
        if self._begun is not None:
            self.begin(now)
        self._learn()

    def _learn(self) -> None:
        self.timelines.learn([*self._known, self._begun] if self._begun else self._known)
