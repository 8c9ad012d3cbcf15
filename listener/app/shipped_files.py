"""Reads a file of letters and its sidecar for shipping, in parts that are bounded in count and bytes."""

from pathlib import Path

from unlost.dlq.record.file import read_lines
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import Damaged, decode
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.shipped import size_of
from unlost.dlq.record.sidecar import MAX_RECORD_BYTES
from unlost.dlq.record.sidecar import decode as decode_record

BYTES_AT_ONCE = 4 * 1024 * 1024
LARGEST = 64 * 1024 * 1024
"""A longer line stays only in its file: a statement with it would need several times its size of memory."""


def lines_from(path: Path, start: int, most: int) -> tuple[list[bytes], int]:
    """Some lines from here on, and where the next one begins. A line that is too long is left out."""
    size = size_of(path)
    lines: list[bytes] = []
    held = 0
    for offset, line, length, _ in read_lines(path, start=start, end=size, max_line=LARGEST) if size else ():
        if lines and (len(lines) >= most or held + length > BYTES_AT_ONCE):
            return lines, offset
        if length <= LARGEST:
            lines.append(line)
            held += length
    return lines, max(start, size)


def records_from(path: Path, start: int, until: int, most: int) -> tuple[list[Record | None], int]:
    """Some records, and where the next one begins."""
    found: list[Record | None] = []
    held = 0
    for offset, line, length, _ in read_lines(path, start=start, end=until, max_line=MAX_RECORD_BYTES):
        if found and (len(found) >= most or held + length > BYTES_AT_ONCE):
            return found, offset
        found.append(decode_record(line) if length <= MAX_RECORD_BYTES else None)
        held += length
    return found, until


def letter_in(line: bytes) -> Letter | None:
    """The letter of a line; None if it is damaged."""
    try:
        return decode(line)
    except Damaged:
        return None


def inode_of(path: Path) -> int:
    """Which file is at this path; 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
