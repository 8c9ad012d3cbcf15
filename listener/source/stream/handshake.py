"""Reads the headers of a stream's handshake, and builds its address. Pure.

Everything here comes from the network and may be hostile. Anything invalid is refused with a sentence, never trusted,
and never raised as an error of the library. Only the headers of Unlost's own producer prove that a source resumes.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.datastructures import Headers

from unlost.listener.core.errors import Transient
from unlost.listener.source.stream.lines import FORMAT, LINES, PARTITIONS

_CURSOR = re.compile(r"[!-~]{0,255}[0-9]")
_BYTES = re.compile(r"[0-9]{1,12}")


class Handshake(NamedTuple):
    """The parsed headers of a source. ``oldest`` and ``cursor`` are both set, or neither.

    ``max_event``: the size of the largest event that it sends, in bytes. ``lines``: it sends many events in a message.
    ``partitions``: it sends those of some partitions.
    """

    oldest: str | None = None
    cursor: str | None = None
    gap: str | None = None
    max_event: int = 0
    lines: bool = False
    partitions: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether the source is Unlost's producer, which resumes after a cursor."""
        return self.oldest is not None


def handshake_of(headers: Headers) -> Handshake:
    """Read the headers; ``Transient`` if one that is allowed once occurs twice."""
    oldest, cursor = _one(headers, "unlost-oldest"), _one(headers, "unlost-cursor")
    gap, max_event = _one(headers, "unlost-gap"), _one(headers, "unlost-max-event") or ""
    form = _one(headers, FORMAT)
    if oldest is None or cursor is None or not (_CURSOR.fullmatch(oldest) and _CURSOR.fullmatch(cursor)):
        return Handshake()
    largest = int(max_event) if _BYTES.fullmatch(max_event) else 0
    return Handshake(oldest, cursor, gap, largest, lines=form == LINES, partitions=form == PARTITIONS)


def with_cursor(url: str, after: str | None) -> str:
    """Return the address that asks for the events after this cursor."""
    if after is None:
        return url
    parts = urlsplit(url)
    # Keep the rest of the query as it was written: it may be signed.
    query = [one for one in parts.query.split("&") if one and one.partition("=")[0] != "after"]
    return urlunsplit(parts._replace(query="&".join([*query, f"after={quote(after, safe='')}"])))


def source_name(url: str) -> str:
    """Return the name under which a source's cursor is kept: its address without credentials and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path or "/", "", ""))


def _one(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    if len(values) > 1:
        raise Transient(f"the source's handshake has the header {name} {len(values)} times; it may occur once")
    return values[0] if values else None
