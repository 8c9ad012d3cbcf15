"""The groups of listeners that a journal knows, and how far each has settled. Retention keeps what they have not read.

A group is known from its first report until it is forgotten. Anyone with write access to the file may forget a group,
also while the producer runs, because the producer reads the table again at each periodic check.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

MOST = 64
"""The most groups known at once. A limit is needed because any client of the stream can report as a group."""

SCHEMA = """
create table if not exists groups (
    name text primary key, settled integer not null, at real not null, forgotten integer not null default 0);
create table if not exists unread (one integer primary key check (one = 1), dropped integer not null);
insert or ignore into unread values (1, 0);
"""
ALL = "select name, settled, at, forgotten from groups order by name"
REMEMBER = """insert into groups (name, settled, at) values (?, ?, ?)
    on conflict (name) do update set settled = excluded.settled, at = excluded.at, forgotten = 0"""
FORGET = "update groups set forgotten = 1 where name = ? and not forgotten"
UNREAD = "select count(*), coalesce(sum(length(body)), 0) from entries where number > ?"


class Group(msgspec.Struct, frozen=True):
    """A group. Every number up to ``settled`` is a row or a dead letter. ``at``: when the group last reported.

    ``name``: with the database in which its rows are, ``orders@1f6a03bc``.
    """

    name: str
    settled: int
    at: float
    forgotten: bool = False


class Keep(msgspec.Struct, frozen=True):
    """Limits for retention. Nothing above ``after`` is dropped. What is dropped above ``read`` was unread."""

    after: int
    read: int


KEEP_NOTHING = Keep(2**62, 2**62)


def groups_in(connection: sqlite3.Connection) -> list[Group]:
    """All groups, including forgotten ones."""
    return [Group(name, settled, at, bool(forgotten)) for name, settled, at, forgotten in connection.execute(ALL)]


def remember(writer: sqlite3.Connection, groups: Sequence[Group]) -> None:
    """Store these reports. Call it within a transaction."""
    writer.executemany(REMEMBER, [(one.name, one.settled, one.at) for one in groups])


def forget(writer: sqlite3.Connection, name: str) -> bool:
    """Mark the group as forgotten. Returns whether it was known. Call it within a transaction."""
    return writer.execute(FORGET, (name,)).rowcount > 0


def kept_for(groups: Sequence[Group]) -> Keep:
    """The limits that keep everything these groups have not read."""
    settled = [one.settled for one in groups if not one.forgotten]
    read = min([one.settled for one in groups], default=0)
    return Keep(min(settled), read) if settled else Keep(KEEP_NOTHING.after, read)
