"""Messages of a feed in a file, to read them again in a test: each line is a JSON text, or ``{"base64": "…"}``."""

import base64
import binascii
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from unlost.ops.kit.telemetry.files import private_descriptor

LARGEST_RECORDING = 64 * 1024 * 1024


class _Binary(msgspec.Struct, forbid_unknown_fields=True):
    base64: str


_line = msgspec.json.Decoder(str | _Binary)


class BadRecording(ValueError):
    """A line of a recording cannot be read. The text names the file and the line."""


class MessageFile:
    """A new file of messages; others cannot read it. Beyond ``LARGEST_RECORDING`` they are left out, and counted."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(private_descriptor(path, os.O_WRONLY | os.O_TRUNC), "wb")
        self._room = LARGEST_RECORDING
        self.left_out = 0

    def add(self, message: bytes) -> None:
        """Write a message."""
        line = msgspec.json.encode(_written(message)) + b"\n"
        self._room -= len(line)
        if self._room < 0:
            self.left_out += 1
            return
        self._file.write(line)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def _written(message: bytes) -> str | _Binary:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return _Binary(base64.b64encode(message).decode())


def messages_in(path: Path) -> Iterator[bytes]:
    """Read a recording."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                found = _line.decode(line)
                yield found.encode() if isinstance(found, str) else base64.b64decode(found.base64, validate=True)
            except (msgspec.MsgspecError, binascii.Error) as error:
                raise BadRecording(f"{path}, line {number}: this is no recorded message: {error}") from None
