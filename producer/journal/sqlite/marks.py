"""The mark of a journal in a file that has moved, or that is being made of another."""

import sqlite3

from unlost.producer.journal.moves import Mark
from unlost.producer.journal.sqlite import statements


def mark_in(connection: sqlite3.Connection) -> Mark | None:
    """The mark, if there is one."""
    row = connection.execute(statements.MARK).fetchone()
    return None if row is None else Mark(*row)


def put_mark(connection: sqlite3.Connection, mark: Mark) -> None:
    """Store the mark. Call it within a transaction.

    A producer of an earlier version does not look for the mark, so the file refuses what it inserts.
    """
    connection.execute(statements.TAKE_ENTRIES)
    if mark.state == "moved":
        connection.execute(statements.REFUSE_ENTRIES.format(mark.other.replace("'", "''")))
    connection.execute("insert or replace into moving values (1, ?, ?)", (mark.state, mark.other))
