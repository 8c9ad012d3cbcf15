"""A journal of numbered frames, which a test can stop, empty or break."""

import threading

from unlost.producer.journal.port import JournalError

PIECE = 10
NEWEST = 100


class NumberedFrames:
    """Numbered frames, some at a time; those up to ``oldest`` are gone. Counts how often it is read."""

    def __init__(self, newest: int = NEWEST) -> None:
        self._newest = newest
        self.asked: list[int] = []
        self.oldest = 0
        self.error = False
        self.goes_on = threading.Event()
        self.goes_on.set()

    def read(self, number: int) -> list[bytes]:
        self.asked.append(number)
        assert self.goes_on.wait(20)
        if self.error:
            raise JournalError("no disk")
        if number < self.oldest:
            return []
        return [b"%d" % n for n in range(number + 1, min(number + PIECE, self._newest) + 1)]
