"""The library's parser with bounds (``resp.py``). It reads every answer, also those to AUTH and SELECT.

The library has no public place for this: a length must be checked between the socket and its reader.
"""

from typing import Any

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser

from unlost.listener.claims.redis.resp import Lengths


class BoundedParser(_AsyncHiredisParser):
    """Refuses a length before memory is allocated for it."""

    _reader: Any

    def on_connect(self, connection: Any) -> None:
        """Wrap the reader of a new connection."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._reader = _Checked(self._reader)


class _Checked:
    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._lengths = Lengths()
        self.has_data = reader.has_data

    def feed(self, data: bytes) -> None:
        self._lengths.check(data)
        self._reader.feed(data)

    def gets(self, *decoded: bool) -> object:
        reply = self._reader.gets(*decoded)
        if reply is not NOT_ENOUGH_DATA:
            self._lengths.answered()
        return reply
