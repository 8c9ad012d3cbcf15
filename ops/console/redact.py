"""Masks secret payload fields before anything leaves the process. Pure.

A field is masked by its name, at any depth, whatever its value. Texts of errors often quote values, so the values of
masked fields are masked in texts too. If the content of an event is not available, a text about it is withheld.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from unlost.dlq.record.letter import Letter
from unlost.listener.core.errors import Failure

MASK = "***"
WITHHELD = "(withheld here: it may quote the payload)"
UNREADABLE = b"(withheld: it cannot be parsed, so its fields cannot be masked)"
SHORTEST = 3
"""Shorter values are not masked in texts: they would match everywhere."""


class Redactor:
    """Masks fields with these names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)

    @property
    def masks(self) -> bool:
        """Whether any field is masked."""
        return bool(self._names)

    def value(self, value: Any) -> Any:
        """Mask fields in decoded JSON."""
        if not self._names:
            return value
        if isinstance(value, dict):
            return {key: MASK if key.lower() in self._names else self.value(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one) for one in value]
        return value

    def text(self, text: str, content: Any) -> str:
        """Mask a text about an event with this content."""
        if not self._names:
            return text
        if content is None:
            return self.unknown(text)
        for secret in sorted(set(self._secrets(content, inside=False)), key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text

    def unknown(self, text: str) -> str:
        """Withhold a text about an event whose content is not available."""
        return WITHHELD if self._names and text else text

    def about(self, text: str, letter: Letter) -> str:
        """Mask a text about the event of a letter."""
        return self.text(text, _decoded(letter.event if letter.event is not None else letter.raw))

    def letter(self, letter: Letter) -> Letter:
        """Mask a letter."""
        if not self._names:
            return letter
        content = _decoded(letter.event if letter.event is not None else letter.raw)
        return msgspec.structs.replace(
            letter,
            event=None if letter.event is None else self._bytes(content),
            raw=None if letter.raw is None else self._bytes(content),
            message=self.text(letter.message, content),
            attempts=self._attempts(letter.attempts, content),
        )

    def _attempts(self, attempts: Sequence[Failure], content: Any) -> tuple[Failure, ...]:
        return tuple(
            msgspec.structs.replace(
                one,
                message=self.text(one.message, content),
                traceback=None if one.traceback is None else self.text(one.traceback, content),
            )
            for one in attempts
        )

    def _bytes(self, content: Any) -> bytes:
        if content is None:
            return UNREADABLE
        return json.dumps(self.value(content), ensure_ascii=False).encode("utf-8", "backslashreplace")

    def _secrets(self, value: Any, *, inside: bool) -> Iterator[str]:
        """All scalar values within masked fields."""
        if isinstance(value, dict):
            for key, one in value.items():
                yield from self._secrets(one, inside=inside or key.lower() in self._names)
        elif isinstance(value, list):
            for one in value:
                yield from self._secrets(one, inside=inside)
        elif inside:
            text = value if isinstance(value, str) else json.dumps(value)
            if len(text) >= SHORTEST and text not in ("true", "false", "null"):
                yield text


def _decoded(text: bytes | None) -> Any:
    try:
        return json.loads(text or b"")
    except (ValueError, RecursionError):
        return None
