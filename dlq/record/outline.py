"""The part of a letter by which it is selected and counted. Reading it costs a fraction of reading the whole letter."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import decode
from unlost.dlq.record.line import broken_seal
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import ErrorClass

NO_EVENT = msgspec.Raw()
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Outline(msgspec.Struct, frozen=True):
    """Its names are those of ``Letter``. All other fields of the line are skipped unread."""

    v: Literal[1]
    letter_id: str
    reason: Reason
    error_class: ErrorClass
    error_type: str
    message: str
    fingerprint: str
    first: Moment = msgspec.field(name="first_at")
    last: Moment = msgspec.field(name="last_at")
    event_id: str | None = None
    handler: str | None = None
    group: str | None = None
    text: msgspec.Raw = msgspec.field(default=NO_EVENT, name="event")

    @property
    def first_at(self) -> float:
        """When the event failed first, an epoch second."""
        return self.first.timestamp()

    @property
    def last_at(self) -> float:
        """When the event failed last, an epoch second."""
        return self.last.timestamp()

    @property
    def event(self) -> bytes | None:
        """The event as its publisher wrote it, if it is one."""
        return bytes(self.text) or None


_lines = msgspec.json.Decoder(Outline)


def outline(line: bytes) -> Outline:
    """The outline of the letter of one line. Raises ``Damaged`` as ``decode`` does for the whole letter."""
    try:
        if not broken_seal(line):
            return _lines.decode(line)
    except (msgspec.DecodeError, RecursionError):
        pass
    return _outline_of(decode(line))


def _outline_of(letter: Letter) -> Outline:
    return Outline(
        1, letter.letter_id, letter.reason, letter.error_class, letter.error_type, letter.message, letter.fingerprint,
        datetime.fromtimestamp(letter.first_at, UTC), datetime.fromtimestamp(letter.last_at, UTC), letter.event_id,
        letter.handler, letter.group, msgspec.Raw(letter.event or b""),
    )  # fmt: skip
