"""Facts about dead letters, and about their file."""

from collections.abc import Sequence

from unlost.listener.core.fact import Fact


class LettersResolved(Fact, frozen=True):
    """These letters need no replay: their events are rows, or buried under another letter."""

    letter_ids: Sequence[str]
    why: str


class LettersReopened(Fact, frozen=True):
    """PostgreSQL lost the rows of these resolved letters. They wait for a replay again."""

    letter_ids: Sequence[str]


class LettersTriedInVain(Fact, frozen=True):
    """This listener retried letters that had failed alike, and they failed again."""

    count: int
    fingerprint: str
    why: str


class HealingInterrupted(Fact, frozen=True):
    """PostgreSQL failed while letters that had failed alike were retried. They are retried again soon."""

    fingerprint: str
    why: str


class DeadLetterFileFailed(Fact, frozen=True):
    """The dead-letter file cannot be written. Events to bury are held, and reading stops."""

    why: str


class DeadLetterFileRecovered(Fact, frozen=True):
    """The dead-letter file accepts letters again."""
