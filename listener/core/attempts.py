"""The retry policy of a handler or route: how many attempts, how far apart, how long, how many at once. Pure.

Without a policy the settings apply: three attempts, two seconds apart. Random numbers are an argument.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from unlost.listener.core.errors import LONGEST_WAIT, Misconfigured, Permanent, Retry

Kind = Literal["transient", "permanent", "at_once"]
Errors = tuple[type[Exception], ...]
MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Up to ``attempts``; the pause between them grows from ``first`` by ``factor`` to ``longest`` seconds.

    ``jitter`` takes a random part of the pause, at least half of it, so that events that failed together do not come
    back together. An error of a handler is transient, except for the classes in ``permanent`` (no further attempt) and
    ``at_once`` (no pause). If a class and its base are both named, the one nearest to the error's own class decides.
    ``transient`` names exceptions from the other two.
    """

    attempts: int = 3
    first: float = 2.0
    factor: float = 2.0
    longest: float = 600.0
    jitter: bool = True
    permanent: Errors = ()
    at_once: Errors = ()
    transient: Errors = ()

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        if why := self.mistake():
            raise Misconfigured(f"Backoff: {why}")

    @classmethod
    def fixed(cls, attempts: int, pause: float) -> "Backoff":
        """Return a policy of ``attempts`` attempts with the same pause after each."""
        pause = min(pause, LONGEST_WAIT)
        return cls(attempts=attempts, first=pause, longest=pause, factor=1.0, jitter=False)

    def mistake(self) -> str:
        """Return what is wrong with these numbers; empty if nothing is."""
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            return f"attempts={self.attempts} must be from 1 to {MOST_ATTEMPTS}"
        if not (0 <= self.first <= LONGEST_WAIT and 0 <= self.longest <= LONGEST_WAIT):
            return f"first and longest must be from 0 to {LONGEST_WAIT:,.0f} seconds"
        return "" if 1 <= self.factor < math.inf else f"factor={self.factor:g} must be at least 1"

    def pause(self, number: int, fraction: float) -> float:
        """Return the seconds to wait after attempt ``number`` (from 1); ``fraction`` is a random number in [0, 1)."""
        try:
            ceiling = min(self.longest, self.first * self.factor ** (number - 1))
        except OverflowError:
            ceiling = self.longest
        return ceiling * (0.5 + 0.5 * fraction) if self.jitter else ceiling

    def kind_of(self, error: type[BaseException]) -> Kind:
        """Sort an exception that the handler raised, by its class."""
        for one in error.__mro__:
            if one in self.permanent:
                return "permanent"
            if one in self.at_once:
                return "at_once"
            if one in self.transient:
                return "transient"
        return "transient"

    def again_after(self, number: int, error: Exception, fraction: float) -> float | None:
        """Return the seconds between attempt ``number``, which failed with this, and the next; None if none follows."""
        if isinstance(error, Permanent) or number >= self.attempts:
            return None
        if isinstance(error, Retry) and error.after is not None:
            return error.after
        if self.kind_of(raised(error)) == "at_once":
            return 0.0
        return self.pause(number, fraction)


class Line(Protocol):
    """Where the calls of one function wait for a thread."""

    @property
    def is_quick(self) -> bool:
        """Whether the latest calls were so quick that many may wait for one thread."""

    def limit(self, at_once: int) -> None:
        """Run at most so many calls at once, from now on."""


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """The attempts of one route. None: as the settings say. A plain function is one route, named after the handler.

    ``timeout``: seconds for one attempt, at most HANDLE_TIMEOUT. ``concurrency``: how many attempts of this route run
    at once in one listener, at most HANDLE_CONCURRENCY. ``line``: where its attempts wait for a thread, if they do
    nothing else.
    """

    route: str
    retry: Backoff | None = None
    timeout: float | None = None
    concurrency: int | None = None
    line: Line | None = field(default=None, compare=False, repr=False)

    def mistakes(self, *, timeout: float, concurrency: int) -> list[str]:
        """Return one sentence for each number that exceeds the settings."""
        said = []
        if self.timeout is not None and not 0 < self.timeout <= timeout:
            said.append(
                f"{self.route}: timeout={self.timeout:g} must be above 0, and at most --handle-timeout "
                f"(HANDLE_TIMEOUT), which is {timeout:g}: transactions and letters rely on that limit"
            )
        if self.concurrency is not None and not 1 <= self.concurrency <= concurrency:
            said.append(
                f"{self.route}: concurrency={self.concurrency} must be at least 1, and at most --handle-concurrency "
                f"(HANDLE_CONCURRENCY), which is {concurrency}"
            )
        return said


def raised(error: BaseException) -> type[BaseException]:
    """Return the class of what the handler raised. An attempt that took too long counts as ``TimeoutError``."""
    found: type[BaseException] = getattr(error, "raised", type(error))
    return found


def must_fit(policies: Iterable[AttemptPolicy], *, timeout: float, concurrency: int) -> None:
    """Raise ``Misconfigured`` if a route asks for more than the settings allow."""
    if mistakes := [why for one in policies for why in one.mistakes(timeout=timeout, concurrency=concurrency)]:
        raise Misconfigured(*mistakes)
