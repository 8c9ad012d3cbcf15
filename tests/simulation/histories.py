"""Which entries stood before each cursor: the histories of a journal that was set back, independent of the product.

A history begins with the journal and ends with a restore. The next history shares what the backup held, and continues
with other entries under the same numbers. Entries are named by serial numbers, which count everything ever accepted.
"""


class Histories:
    """All histories. The current one is the last."""

    def __init__(self) -> None:
        self.all: list[list[int]] = [[]]
        self.lost: set[int] = set()
        """Entries that a restore has removed."""
        self.forgiven: set[int] = set()
        """Dropped by retention, which reported which group had not read it."""
        self.removed = 0
        """Up to which number retention has removed entries of the current history."""
        self._of: dict[str, list[int]] = {}
        self._last: int | None = None

    @property
    def present(self) -> list[int]:
        """The entries that the journal holds now, or held before retention removed them."""
        return self.all[-1]

    def begins(self, stem: str) -> None:
        """A timeline begins. Its cursors begin with ``stem``."""
        self._of[stem.rstrip(".")] = self.present

    def accepts(self, serial: int, *, tells_cursor: bool) -> None:
        """Add an entry."""
        self.present.append(serial)
        self._last = serial if tells_cursor else self._last

    def loses_old(self) -> None:
        """Retention removes everything."""
        self.removed = len(self.present)
        self.forgiven.update(self.present)

    def goes_back(self, newest: int, removed: int) -> None:
        """A backup was restored that ends with the number ``newest``."""
        self.lost.update(self.present[newest:])
        self.all.append(self.present[:newest])
        self.removed = removed
        self._last = None

    def up_to(self, cursor: str) -> list[int]:
        """The entries up to this cursor in the history that it names."""
        stem, _, number = cursor.rpartition(".")
        return self._of[stem][: int(number)]

    def has(self, cursor: str) -> bool:
        """Whether the current history contains everything up to this cursor, too."""
        before = self.up_to(cursor)
        return self.present[: len(before)] == before

    def misses(self, cursor: str) -> bool:
        """Whether a reader at this cursor cannot simply continue."""
        return not self.has(cursor) or len(self.up_to(cursor)) < self.removed

    def leaves(self, old: str, new: str) -> bool:
        """Whether this step between cursors goes back, or into a lost history, without a reset that allows it."""
        if not self.has(old):
            return False
        if self.has(new):
            return len(self.up_to(new)) < len(self.up_to(old))
        return self._of[old.rpartition(".")[0]] is self.present

    def is_reached(self, cursor: str | None) -> bool:
        """Whether a cursor is at the last entry accepted since the last restore, if there is one."""
        if self._last is None or self._last in self.forgiven:
            return True
        return cursor is not None and self.has(cursor) and self._last in self.up_to(cursor)
