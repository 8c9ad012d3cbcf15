"""Masks secret payload fields before anything leaves the process. Pure: whatever shows a payload asks here.

A field is masked by its name at any depth (``card``), or by the end of its path (``customer.card``), whatever its
value.
Texts of errors often quote values, so the values of masked fields are masked in texts too. If the content of an event
is not available, a text about it is withheld.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

MASK = "***"
EVERYTHING = "*"
"""Stands for all fields."""
PLAIN = ("event_id", "type")
"""Fields of an event that are shown nevertheless."""
WITHHELD = "(withheld here: it may quote the payload)"
TOO_DEEP = "(withheld: it is nested too deeply for its fields to be masked)"
UNREADABLE = b"(withheld: it cannot be parsed, so its fields cannot be masked)"
SHORTEST = 3
"""Shorter values are not masked in texts: they would match everywhere."""
_frame = re.compile(r' +File "[^"]+", line \d+, in [\w.<>]+')


class Redactor:
    """Masks fields with these names, or these ends of paths."""

    def __init__(self, fields: Iterable[str] = ()) -> None:
        """``fields`` may be ``EVERYTHING``: then no content is shown, and no text that may quote it."""
        fields = tuple(fields)
        self._ends = tuple(f".{one.lower()}" for one in fields)
        self._all = EVERYTHING in fields

    @property
    def masks(self) -> bool:
        """Whether any field is masked."""
        return bool(self._ends)

    def value(self, value: Any) -> Any:
        """Mask fields in decoded JSON. The whole of it is withheld if it is nested too deeply."""
        if self._all:
            shown = {one: value[one] for one in PLAIN if one in value} if isinstance(value, dict) else {}
            return {**shown, "payload": MASK}
        try:
            return self._value(value, "") if self._ends else value
        except RecursionError:
            return TOO_DEEP

    def _value(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {
                key: MASK if self._is_masked(below := f"{path}.{key.lower()}") else self._value(one, below)
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self._value(one, path) for one in value]
        return value

    def _is_masked(self, path: str) -> bool:
        return path.endswith(self._ends)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Mask a row of ``events``. Paths begin at the event, as in ``content``."""
        if not self._ends:
            return row
        if self._all:
            return {**row, "payload": MASK, "other": None if row["other"] is None else MASK}
        masked = self.value({"payload": row["payload"]})
        payload = masked["payload"] if isinstance(masked, dict) else masked
        return {**row, "payload": payload, "other": self.value(row["other"])}

    def text_of_row(self, text: str, row: dict[str, Any] | None) -> str:
        """Mask a text about an event with this row; withhold it if the event was edited: its original is not here."""
        if row is None or row.get("letter_version") is not None:
            return self.unknown(text)
        other = row["other"] if isinstance(row["other"], dict) else {}
        return self.text(text, {**other, "payload": row["payload"]})

    def text(self, text: str, content: Any) -> str:
        """Mask a text about an event with this content."""
        if not self._ends:
            return text
        if content is None or self._all:
            return self.unknown(text)
        try:
            secrets = sorted(set(self._secrets(content, "", inside=False)), key=len, reverse=True)
        except RecursionError:
            return self.unknown(text)
        for secret in secrets:
            text = text.replace(secret, MASK)
        return text

    def unknown(self, text: str) -> str:
        """Withhold a text about an event whose content is not available."""
        return WITHHELD if self._ends and text else text

    def trace(self, trace: str) -> str:
        """Keep the places of a traceback, without the source lines and the messages between them."""
        return "\n".join(filter(_frame.fullmatch, trace.splitlines())) if self._ends else trace

    def content(self, content: Any) -> bytes:
        """Mask an event's content, and write it as JSON again."""
        if content is None:
            return UNREADABLE
        try:
            text = json.dumps(self.value(content), ensure_ascii=False)
        except RecursionError:
            text = json.dumps(TOO_DEEP)
        return text.encode("utf-8", "backslashreplace")

    def _secrets(self, value: Any, path: str, *, inside: bool) -> Iterator[str]:
        """All scalar values within masked fields."""
        if isinstance(value, dict):
            for key, one in value.items():
                below = f"{path}.{key.lower()}"
                yield from self._secrets(one, below, inside=inside or self._is_masked(below))
        elif isinstance(value, list):
            for one in value:
                yield from self._secrets(one, path, inside=inside)
        elif inside:
            text = value if isinstance(value, str) else json.dumps(value)
            if len(text) >= SHORTEST and text not in ("true", "false", "null"):
                yield text


UNMASKED = Redactor()


def content_of(text: bytes | None) -> Any:
    """Decode the content of an event; None if it cannot be decoded."""
    try:
        return json.loads(text or b"")
    except (ValueError, RecursionError):
        return None
