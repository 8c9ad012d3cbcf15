"""The limits that the stages obey: how often, how long and how much. Immutable."""

from dataclasses import dataclass


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
    letters_sure_after: float = 36.0
    """After this no transaction of an earlier attempt can still commit: see ``ConnectionSettings.policy``."""

    def claims_at_once(self, *, handled: bool) -> int:
        """How many claims may be held.

        A killed owner leaves this many behind. With a handler they are taken over in small groups, so the limit stays
        near what can run.
        """
        return self.handle_concurrency * 4 if handled else self.batch * 4

    def claims_wait_below(self, *, handled: bool) -> int:
        """No more claims are requested while this many are held.

        Handlers end one by one, and a call for each would cost more than the claims. The claims still held keep all
        handlers busy meanwhile.
        """
        limit = self.claims_at_once(handled=handled)
        return limit - self.handle_concurrency if handled else limit

    def events_in_a_row(self, *, handled: bool) -> int:
        """How many events in a row belong to one listener, on average. With a handler few, so that all have work."""
        return self.handled_segment if handled else self.segment

    def stand_by_delay(self, requests: int, seconds_left: float) -> float:
        """How long to wait before asking again about another's event: briefly, then longer, but not past its lease."""
        delay = min(self.stand_by_first * 1.5 ** max(0, requests - 1), self.stand_by_longest)
        return min(delay, seconds_left + 0.05) if seconds_left > 0 else delay
