"""The versions of letters in one file, read from its sidecar when they are needed. Offsets are held, never events."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from unlost.dlq.record.file import file_errors, read_lines
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.sidecar import MAX_RECORD_BYTES, decode, read_records, sidecar_path

Place = tuple[int, float, int, int]
"""A version's number and time, and the offset and length of its record."""


class EditedEvents:
    """The newest version of each edited letter."""

    def __init__(self, letters: Path) -> None:
        self._path = sidecar_path(letters)
        self._places: dict[str, Place] | None = None

    def newest(self, letter_id: str) -> bytes | None:
        """Return the event of the newest version; None if there is none."""
        for _ in range(2):  # a second time, if ``compact`` has replaced the file meanwhile
            if self._places is None:
                self._places = self._found()
            place = self._places.get(letter_id)
            record = None if place is None else self._read(*place[2:])
            if record is not None and record.letter_id == letter_id and record.edit is not None:
                return record.edit.event
            self._places = None
        return None

    def _found(self) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for letter_id, place in _places_of_edits(self._path):
            found[letter_id] = max(place, found.get(letter_id, place))
        return found

    def _read(self, offset: int, length: int) -> Record | None:
        return _read(self._path, offset, length)


class EveryVersion:
    """All versions of the letters in one file, as they are while this is made."""

    def __init__(self, letters: Path) -> None:
        self._path = sidecar_path(letters)
        self._places: dict[str, list[Place]] = {}
        for letter_id, place in _places_of_edits(self._path):
            self._places.setdefault(letter_id, []).append(place)

    def of(self, letter_ids: Iterable[str]) -> list[Record]:
        """Return the records of all edits of these letters."""
        places = [place for one in letter_ids for place in self._places.get(one, ())]
        return [one for place in places if (one := _read(self._path, *place[2:])) is not None]


def _places_of_edits(sidecar: Path) -> Iterator[tuple[str, Place]]:
    """Each edit in a sidecar: the letter's id, and the place of the record."""
    for offset, line, length, _ in read_lines(sidecar, max_line=MAX_RECORD_BYTES) if sidecar.exists() else ():
        if b'"what":"edited"' not in line or length > MAX_RECORD_BYTES:
            continue
        record = decode(line)
        if record is not None and record.edit is not None:
            yield record.letter_id, (record.edit.version, record.at, offset, length)


def _read(sidecar: Path, offset: int, length: int) -> Record | None:
    with file_errors(sidecar, "read"), sidecar.open("rb") as file:
        file.seek(offset)
        return decode(file.read(length))


def history_of(letters: Path, letter_ids: Collection[str]) -> dict[str, list[Record]]:
    """Everything that happened to these letters, in the order of the file."""
    found: dict[str, list[Record]] = {}
    path = sidecar_path(letters)
    for _, record in read_records(path) if path.exists() else ():
        if record is not None and record.letter_id in letter_ids:
            found.setdefault(record.letter_id, []).append(record)
    return found
