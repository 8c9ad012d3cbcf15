"""The result of one event in a test."""

from typing import Any, Literal, NamedTuple

import msgspec

from unlost.listener.core.effects import NewEffect
from unlost.listener.core.errors import Failure

Outcome = Literal["stored", "duplicate", "rejected", "invalid", "conflict", "letter"]


class Statement(NamedTuple):
    """One statement that a route ran in its transaction."""

    query: str
    arguments: tuple[Any, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """The outcome of an event.

    ``stored``: as a row. ``duplicate``: it had ended before. ``letter``: a dead letter, because its attempts were used
    up. ``rejected``: a letter at once, for which the handler asked. ``invalid``: a letter at once, since the payload
    does not fit the type of its route. ``conflict``: a letter, since its id belongs to other content.
    """

    event_id: str
    outcome: Outcome
    attempts: int
    """How often the handler ran. 0: no function takes such an event."""
    failures: tuple[Failure, ...] = ()
    """Every failed attempt, as the letter would have it."""
    waited: float = 0.0
    """How many seconds a listener would have paused between the attempts."""
    statements: tuple[Statement, ...] = ()
    """Statements that were committed with the row. Empty with a real PostgreSQL: query that instead."""
    effects: tuple[NewEffect, ...] = ()
    """The effects that ``event.effects`` recorded, and a listener would deliver."""

    @property
    def is_letter(self) -> bool:
        """Whether it is a dead letter."""
        return self.outcome not in ("stored", "duplicate")

    @property
    def error(self) -> str:
        """The message of the last failure, or an empty text."""
        return self.failures[-1].message if self.failures else ""
