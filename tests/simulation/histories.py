"""What stood before each cursor: the histories of a journal that was set back, kept apart from what the product says.

A history begins with the journal and goes on until a restore. What begins then shares what the backup held, and goes on
with other entries under the same numbers. Entries are named by their serial numbers, which count all that was accepted.
"""


class Histories:
    """All that there were; the present one is the last."""

    def __init__(self) -> None:
        self.all: list[list[int]] = [[]]
        self.lost: set[int] = set()
        """What a restore has taken."""
        self.forgiven: set[int] = set()
        """Retention drops an entry once, and reports which group had not read it."""
        self.removed = 0
        """Up to which number retention has taken entries of the present history."""
        self._of: dict[str, list[int]] = {}
        self._last: int | None = None

    @property
    def present(self) -> list[int]:
        """What the journal holds, and held before retention took it."""
        return self.all[-1]

    def begins(self, stem: str) -> None:
        """A timeline begins; its cursors begin with ``stem``."""
        self._of[stem.rstrip(".")] = self.present

    def accepts(self, serial: int, *, tells_cursor: bool) -> None:
        """An entry more."""
        self.present.append(serial)
        self._last = serial if tells_cursor else self._last

    def loses_old(self) -> None:
        """Retention takes all."""
        self.removed = len(self.present)
        self.forgiven.update(self.present)

    def goes_back(self, newest: int, removed: int) -> None:
        """A backup was restored that ends with the number ``newest``."""
        self.lost.update(self.present[newest:])
        self.all.append(self.present[:newest])
        self.removed = removed
        self._last = None

    def up_to(self, cursor: str) -> list[int]:
        """What stands up to this cursor in the history that it names."""
        stem, _, number = cursor.rpartition(".")
        return self._of[stem][: int(number)]

    def has(self, cursor: str) -> bool:
        """Whether all that stands up to this cursor stands in the present history too."""
        before = self.up_to(cursor)
        return self.present[: len(before)] == before

    def misses(self, cursor: str) -> bool:
        """Whether who has read up to this cursor cannot simply go on."""
        return not self.has(cursor) or len(self.up_to(cursor)) < self.removed

    def leaves(self, old: str, new: str) -> bool:
        """Whether the step from one cursor to another goes back, or off to what is lost, where nothing asks for it."""
        if not self.has(old):
            return False
        if self.has(new):
            return len(self.up_to(new)) < len(self.up_to(old))
        return self._of[old.rpartition(".")[0]] is self.present

    def is_reached(self, cursor: str | None) -> bool:
        """Whether a cursor stands at what was accepted last, since the last restore, if that was anything."""
        if self._last is None or self._last in self.forgiven:
            return True
        return cursor is not None and self.has(cursor) and self._last in self.up_to(cursor)
