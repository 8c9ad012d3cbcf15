"""Dead letters with masked payload fields. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_state import Record
from unlost.listener.core.errors import Failure
from unlost.ops.kit.telemetry.redact import Redactor, content_of


def redacted(letter: Letter, redactor: Redactor) -> Letter:
    """Mask a letter."""
    if not redactor.masks:
        return letter
    content = _content(letter)
    return msgspec.structs.replace(
        letter,
        event=None if letter.event is None else redactor.content(content),
        raw=None if letter.raw is None else redactor.content(content),
        message=redactor.text(letter.message, content),
        attempts=_attempts(letter.attempts, content, redactor),
    )


def redacted_about(text: str, letter: Letter, redactor: Redactor, *versions: bytes | None) -> str:
    """Mask a text about the event of a letter, and about versions of it."""
    if not redactor.masks:
        return text
    text = redactor.text(text, _content(letter))
    for one in filter(None, versions):
        text = redactor.text(text, content_of(one))
    return text


def redacted_history(records: Sequence[Record], letter: Letter, redactor: Redactor) -> list[Record]:
    """Mask what happened to a letter: its versions, and texts that a person did not write."""
    if not redactor.masks:
        return list(records)
    versions = [one.edit.event for one in records if one.edit is not None]
    return [_redacted_record(one, letter, redactor, versions) for one in records]


def _redacted_record(one: Record, letter: Letter, redactor: Redactor, versions: Sequence[bytes]) -> Record:
    if one.what in ("failed", "retried", "quarantined"):
        one = msgspec.structs.replace(one, detail=redacted_about(one.detail, letter, redactor, *versions))
    if one.edit is None:
        return one
    event = redactor.content(content_of(one.edit.event))
    return msgspec.structs.replace(one, edit=msgspec.structs.replace(one.edit, event=event))


def _content(letter: Letter) -> Any:
    return content_of(letter.event if letter.event is not None else letter.raw)


def _attempts(attempts: Sequence[Failure], content: Any, redactor: Redactor) -> tuple[Failure, ...]:
    return tuple(
        msgspec.structs.replace(
            one,
            message=redactor.text(one.message, content),
            traceback=None if one.traceback is None else redactor.text(one.traceback, content),
        )
        for one in attempts
    )
