"""The groups of listeners that a journal knows, and how far each has settled. Retention keeps what they have not read.

A group is known from its first report until it is forgotten. Anyone with write access to the file may forget a group,
also while the producer runs, because the producer reads the table again at each periodic check.
"""

from collections.abc import Sequence

import msgspec

MOST = 64
"""The most groups known at once. A limit is needed because any client of the stream can report as a group."""


class Group(msgspec.Struct, frozen=True):
    """A group. Every number up to ``settled`` is a row or a dead letter. ``at``: when the group last reported.

    ``name``: with the database in which its rows are, ``orders@1f6a03bc``.
    """

    name: str
    settled: int
    at: float
    forgotten: bool = False


class RetentionLimits(msgspec.Struct, frozen=True):
    """Limits for retention. Nothing above ``after`` is dropped. Entries dropped above ``read`` were unread."""

    after: int
    read: int


KEEP_NOTHING = RetentionLimits(2**62, 2**62)


def kept_for(groups: Sequence[Group]) -> RetentionLimits:
    """The limits that keep everything these groups have not read."""
    settled = [one.settled for one in groups if not one.forgotten]
    read = min([one.settled for one in groups], default=0)
    return RetentionLimits(min(settled), read) if settled else RetentionLimits(KEEP_NOTHING.after, read)
