"""The groups of listeners that a journal knows, and how far each has settled: what retention must leave.

A group is known from its first report on, until somebody forgets it. Whoever may write the file may forget a group,
while the producer runs, too: the producer reads the table at each of its looks.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

MOST = 64
"""So many groups are known at once: anybody who reads the stream can report as one."""

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
    """A group. ``settled``: up to which number all is a row or a letter. ``at``: when it last reported."""

    name: str
    settled: int
    at: float
    forgotten: bool = False


class Keep(msgspec.Struct, frozen=True):
    """What retention goes by. Above ``after`` nothing is dropped; above ``read``, what is dropped was not read."""

    after: int
    read: int


KEEP_NOTHING = Keep(2**62, 2**62)


def groups_in(connection: sqlite3.Connection) -> list[Group]:
    """All of them, those that were forgotten, too."""
    return [Group(name, settled, at, bool(forgotten)) for name, settled, at, forgotten in connection.execute(ALL)]


def remember(writer: sqlite3.Connection, groups: Sequence[Group]) -> None:
    """Within a transaction."""
    writer.executemany(REMEMBER, [(one.name, one.settled, one.at) for one in groups])


def forget(writer: sqlite3.Connection, name: str) -> bool:
    """Within a transaction; whether it was known."""
    return writer.execute(FORGET, (name,)).rowcount > 0


def kept_for(groups: Sequence[Group]) -> Keep:
    """What these groups are still to read."""
    settled = [one.settled for one in groups if not one.forgotten]
    read = min([one.settled for one in groups], default=0)
    return Keep(min(settled), read) if settled else Keep(KEEP_NOTHING.after, read)
