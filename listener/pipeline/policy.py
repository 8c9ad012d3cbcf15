"""The limits that the stages obey: how often, how long and how much. Immutable."""

from dataclasses import dataclass

from unlost.listener.core.order_key import AfterLetter
from unlost.listener.core.shard import Shard
from unlost.listener.pipeline.healing import HealPolicy

HEAL = HealPolicy()
SLOW = 1.0
"""The assumed duration of an attempt before any has ended, in seconds."""
QUICK = 1e-6
HELD_SECONDS = 0.05
"""How many seconds of work are claimed in advance. A claim, a row and a settlement together take less."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Defaults are those of the settings. All times are in seconds."""

    handle_attempts: int = 3
    handle_delay: float = 2.0
    handle_timeout: float = 30.0
    handle_concurrency: int = 16
    insert_attempts: int = 3
    insert_delay: float = 2.0
    max_takeovers: int = 3
    max_events: int = 50_000
    max_bytes: int = 64 * 1024 * 1024
    max_event_bytes: int = 1024 * 1024
    batch: int = 1_024
    peer_wait: float = 0.2
    segment: int = 64
    handled_segment: int = 4
    stand_by_first: float = 1.0
    stand_by_longest: float = 10.0
    breakers: bool = True
    """Whether a route pauses when nearly all of its attempts fail. A replay wants each attempt's outcome."""
    heal: HealPolicy = HEAL
    order_by: str = ""
    """The path of the key in whose order events are processed, unless their route or source declares another."""
    after_letter: AfterLetter = "park"
    """The policy of events whose route declares none."""
    shard: Shard | None = None
    """The shard that this listener works for; None if its group stores all events."""
    letters_sure_after: float = 36.0
    """After these seconds no transaction of an earlier attempt can commit: see ``ConnectionSettings.policy``."""

    @property
    def most_retries(self) -> int:
        """How many events may pause between two attempts. Their claims are renewed, and a peer may have to win them."""
        return max(1, self.max_events // 8)

    @property
    def most_retry_bytes(self) -> int:
        """How many bytes these may have. The rest of the memory belongs to events that can run now."""
        return self.max_bytes // 4

    def claims_at_once(self, *, handled: bool, seconds: float = SLOW) -> int:
        """How many claims may be held while an attempt of the handler takes ``seconds``.

        A killed owner leaves this many behind. With a handler they are taken over in small groups, so the limit stays
        near what runs within a moment: few for a slow handler, a batch for a quick one.
        """
        if not handled:
            return self.batch * 4
        few = self.handle_concurrency * 4
        soon = int(self.handle_concurrency * HELD_SECONDS / max(seconds, QUICK))
        return max(few, min(few + soon, self.batch))

    def ahead_of_key(self, *, handled: bool, seconds: float = SLOW) -> int:
        """How many events of one key are claimed ahead, while an earlier one is under way.

        With a handler few: if this process dies, each of them is taken over by itself, as a suspect. With a quick one
        twice as many, since half of them are claimed in one call to Redis.
        """
        if not handled:
            return 256
        return 16 if seconds * 16 < HELD_SECONDS else 8

    def most_ahead(self, *, handled: bool) -> int:
        """How many events of all keys are claimed ahead."""
        return self.claims_at_once(handled=handled) // 2

    def claims_wait_below(self, *, handled: bool, seconds: float = SLOW) -> int:
        """No more claims are requested while this many are held.

        Handlers end one by one, and a call for each would cost more than the claims. The claims still held keep all
        handlers busy meanwhile.
        """
        limit = self.claims_at_once(handled=handled, seconds=seconds)
        return limit - max(self.handle_concurrency, limit // 4) if handled else limit

    def events_in_a_row(self, *, handled: bool) -> int:
        """How many events in a row belong to one listener, on average. With a handler few, so that all have work."""
        return self.handled_segment if handled else self.segment

    def stand_by_delay(self, requests: int, seconds_left: float) -> float:
        """How long to wait before claiming a held event again: briefly, then longer, but not past its lease."""
        delay = min(self.stand_by_first * 1.5 ** max(0, requests - 1), self.stand_by_longest)
        return min(delay, seconds_left + 0.05) if seconds_left > 0 else delay
