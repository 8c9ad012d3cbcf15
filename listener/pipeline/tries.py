"""How the try of a letter ended, from how its event ended. Pure."""

from collections.abc import Callable

from unlost.listener.core.in_flight import Buried, InFlight, Stored
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.ports.dead_letters import HealingLetter, Tried

Again = Callable[[HealingLetter], float | None]
"""Returns the seconds until a letter that failed again may be tried once more."""


def tried_as(letter: HealingLetter, flight: InFlight, *, who: str, policy: HealPolicy, again: Again) -> Tried:
    """Return how the try ended. ``who`` is recorded with what was resolved."""
    last = flight.attempts[-1] if flight.attempts else None
    lasts = last is not None and last.error_class == "transient"
    match flight.end:
        case Stored():
            return Tried(letter.letter_id, "stored", f"stored by {who}")
        case Buried("blocked"):
            return Tried(letter.letter_id, "behind", "an earlier letter of its key waits")
        case Buried() if not letter.claimed:
            why = f"another letter of the same event waits, written by {who}"
            return Tried(letter.letter_id, "elsewhere", why, lasts=lasts)
        case Buried(reason):
            why = f"{reason}: {last.message}" if last else reason
            error_type = last.error_type if last else None
            delay = again(letter) if lasts or policy.what == "all" else None
            return Tried(letter.letter_id, "failed", why, error_type, delay, lasts)
        case _:
            return Tried(letter.letter_id, "settled", f"settled already, as {who} found")
