"""One record per line of JSON, with its checksum last, so that a reader can tell a complete line from a torn one."""

import hashlib
import re

import msgspec

_TAIL = re.compile(rb',"checksum":"([0-9a-f]{16})"\}$')
_TAIL_LENGTH = len(b',"checksum":"0123456789abcdef"}')


def seal(record: msgspec.Struct) -> bytes:
    """The record as JSON with its checksum, without the newline."""
    body = msgspec.json.encode(record)[:-1]
    return b'%b,"checksum":"%b"}' % (body, checksum(body))


def broken_seal(line: bytes) -> str | None:
    """Why a line cannot be trusted, or None if it is unchanged."""
    tail = _TAIL.search(line[-_TAIL_LENGTH:])
    if not line.startswith(b"{") or tail is None:
        return "the line is torn or no record of ours: its checksum is missing"
    if checksum(line[:-_TAIL_LENGTH]) != tail[1]:
        return "the checksum differs: the line was changed or damaged"
    return None


def checksum(body: bytes) -> bytes:
    """The checksum of a record without its end."""
    return hashlib.sha256(body).hexdigest()[:16].encode()
