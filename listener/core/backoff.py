"""How long to wait before the next connection to a source. Pure: the random number is an argument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FullJitter:
    """Full jitter between zero and a ceiling that doubles from ``first`` to ``longest`` seconds."""

    first: float = 1.0
    longest: float = 30.0

    def delay(self, failures: int, fraction: float) -> float:
        """Return the seconds to wait after ``failures`` (from 1) in a row; ``fraction`` is a random number in [0, 1).

        The floor of a tenth protects a source that accepts and closes at once from a flood of connections.
        """
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 32))
        return ceiling * (0.1 + 0.9 * fraction)
