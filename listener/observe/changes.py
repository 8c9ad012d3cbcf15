"""Changes of state for people on call: what this listener recently lost and found, and since when it lacks what.

Owns a short, bounded past. Promises one entry for a change that repeats: how often, and when last. So a server that
comes and goes does not push out everything else. Refuses what belongs to single events: see ``recent``.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from unlost.listener.core.facts import (
    BreakerChanged,
    ClaimingChanged,
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    EffectBuried,
    EffectHostPaused,
    EffectHostResumed,
    EventBuried,
    EventsDiffer,
    EventsTakenOver,
    Fact,
    GapFetched,
    LeasesLost,
    LettersReopened,
    NotAcknowledged,
    PauseBegan,
    PauseEnded,
    PlacesDeclared,
    ReadingPaused,
    ReadingResumed,
    RedisForged,
    RoutePaused,
    RouteResumed,
    SourceConnected,
    SourceGap,
    SourceLost,
    StoreReplaced,
    StoreUnconfirmed,
    StoreWentBack,
    StoringPaused,
    StoringResumed,
)
from unlost.listener.core.gap import Gap
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor

MOST = 40
SUBSCRIBED = frozenset((
    BreakerChanged, ClaimingChanged, DeadLetterFileFailed, DeadLetterFileRecovered, EffectBuried, EffectHostPaused,
    EffectHostResumed, EventBuried, EventsDiffer, EventsTakenOver, GapFetched, LeasesLost, LettersReopened,
    NotAcknowledged, PauseBegan, PauseEnded, PlacesDeclared, ReadingPaused, ReadingResumed, RedisForged,
    RoutePaused, RouteResumed, SourceConnected, SourceGap, SourceLost, StoreReplaced, StoreUnconfirmed,
    StoreWentBack, StoringPaused, StoringResumed,
))  # fmt: skip
REMARK_SECONDS = 3600.0
"""How long health mentions what cannot be undone."""
REMARKED = {
    "store_went_back": "",
    "store_unconfirmed": "",
    "redis_forged": "somebody else writes to Redis: ",
    "events_differ": "",
    "source_gap": "events of a source were not received: ",
    "not_acknowledged": "a feed is not acknowledged: ",
}
"""Such changes, and the beginning of their remarks."""
ALIKE_SECONDS = 60.0
"""Equal changes within this many seconds share one entry."""


class StateChange(msgspec.Struct, frozen=True):
    """Something that changed ``times`` times between ``first_at`` and ``at``."""

    at: float
    what: str
    detail: str
    times: int
    first_at: float


class Changes:
    """Subscribes to facts, and remembers changes."""

    subscribes_to = SUBSCRIBED

    def __init__(self, now: Callable[[], float], redactor: Redactor = UNMASKED) -> None:
        self._now = now
        self._redactor = redactor
        self._past: deque[StateChange] = deque(maxlen=MOST)
        self._since: dict[str, float] = {}

    def __call__(self, fact: Fact) -> None:  # noqa: C901  one flat table, fact to entry
        """Keep one fact, if it is a change of state."""
        lacking = set(self._since)
        self._mark(fact)
        match fact:
            case BreakerChanged(name=name, state=state) if (name in lacking) is not (name in self._since):
                self._keep("breaker_changed", f"{name} {state}")
            case PlacesDeclared(degraded=degraded) if degraded is not ("degraded" in lacking):
                self._turn("degraded", degraded)
                self._keep("degraded" if degraded else "normal", "")
            case SourceConnected() | SourceLost() | SourceGap() | GapFetched() | NotAcknowledged():
                self._keep_of_source(fact)
            case RedisForged() | StoreWentBack() | StoreUnconfirmed() | StoreReplaced() | LettersReopened():
                self._keep_of_servers(fact)
            case EventsDiffer():
                self._keep("events_differ", differing_in_words(fact))
            case EventsTakenOver(event_ids=ids):
                self._keep("events_taken_over", "", len(ids))
            case LeasesLost(event_ids=ids):
                self._keep("leases_lost", "", len(ids))
            case EventBuried(reason=reason, error_class=error_class):
                self._keep("event_buried", f"{reason}, {error_class}")
            case EffectBuried(error_class=error_class):
                self._keep("effect_buried", error_class)
            case DeadLetterFileFailed(why=why):
                self._keep("dead_letter_file_failed", why)
            case DeadLetterFileRecovered():
                self._keep("dead_letter_file_recovered", "")
            case _:
                self._keep_pause(fact)

    def _keep_of_source(self, fact: SourceConnected | SourceLost | SourceGap | GapFetched | NotAcknowledged) -> None:
        match fact:
            case SourceConnected():
                self._keep("source_connected", "")
            case SourceLost(why=why):
                self._keep("source_lost", why)
            case SourceGap(gap=gap):
                self._keep("source_gap", said_of(gap))
            case NotAcknowledged(source=source):
                self._keep(
                    "not_acknowledged", f"messages of {source} lack a value that its acknowledgement (ack) needs"
                )
            case GapFetched(source=source, outcome=outcome) if outcome is not None:
                self._keep(
                    "gap_fetched", masked(f"{source}, {outcome}: {fact.found:,} events found. {fact.why}".strip())
                )

    def _keep_of_servers(
        self, fact: RedisForged | StoreWentBack | StoreUnconfirmed | StoreReplaced | LettersReopened
    ) -> None:
        match fact:
            case RedisForged(count=count):
                self._keep("redis_forged", f"Redis held {counted(count, 'settled record')} that no listener wrote")
            case StoreWentBack():
                self._keep("store_went_back", "PostgreSQL lacks what it had committed; it is read again")
            case StoreUnconfirmed():
                self._keep(
                    "store_unconfirmed",
                    "a listener or replay started, and Redis did not confirm that PostgreSQL has all that it had "
                    "committed; nothing shows a loss, and the latest events are read again",
                )
            case StoreReplaced():
                self._keep("store_replaced", "PostgreSQL crashed or failed over; the latest events are read again")
            case LettersReopened(letter_ids=ids):
                self._keep("letters_reopened", "PostgreSQL lost their rows; replay them", len(ids))

    def _keep_pause(self, fact: Fact) -> None:
        match fact:
            case ReadingPaused(why=why):
                self._keep("reading_paused", why)
            case StoringPaused(why=why):
                self._keep("storing_paused", why)
            case RoutePaused(route=route, why=why):
                self._keep("route_paused", masked(f"{route}: {self._redactor.unknown(why)}"))
            case RouteResumed(route=route):
                self._keep("route_resumed", route)
            case EffectHostPaused(host=host, why=why):
                self._keep("effect_host_paused", masked(f"{host}: {self._redactor.unknown(why)}"))
            case EffectHostResumed(host=host):
                self._keep("effect_host_resumed", host)
            case PauseBegan(kind, name, by, why):
                self._keep("pause_began", f"{kind} {name}, by {by}: {why}")
            case PauseEnded(kind, name):
                self._keep("pause_ended", f"{kind} {name}")
            case _:
                pass

    def since(self) -> Mapping[str, float]:
        """Return what is not normal now, and since when."""
        return dict(self._since)

    def lately(self) -> list[StateChange]:
        """Return the past changes, oldest first."""
        return list(self._past)

    def remarks(self) -> list[str]:
        """Return remarks that matter even if the listener is ready."""
        since = self._now() - REMARK_SECONDS
        return [
            f"{REMARKED[one.what]}{one.detail} (since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(one.at))})"
            for one in self._past
            if one.what in REMARKED and one.at > since
        ]

    def _mark(self, fact: Fact) -> None:
        match fact:
            case BreakerChanged(name=name, state=state):
                self._turn(name, state != "closed")
            case ClaimingChanged(open=is_open):
                self._turn("claims", not is_open)
            case SourceConnected() | SourceLost():
                self._turn("source", isinstance(fact, SourceLost))
            case ReadingPaused() | ReadingResumed():
                self._turn("reading", isinstance(fact, ReadingPaused))
            case StoringPaused() | StoringResumed():
                self._turn("storing", isinstance(fact, StoringPaused))
            case RoutePaused(route=route) | RouteResumed(route=route):
                self._turn(f"route {route}", isinstance(fact, RoutePaused))
            case EffectHostPaused(host=host) | EffectHostResumed(host=host):
                self._turn(f"effects for {host}", isinstance(fact, EffectHostPaused))
            case DeadLetterFileFailed() | DeadLetterFileRecovered():
                self._turn("dead_letters", isinstance(fact, DeadLetterFileFailed))
            case _:
                pass

    def _turn(self, name: str, on: bool) -> None:
        if on:
            self._since.setdefault(name, self._now())
        else:
            self._since.pop(name, None)

    def _keep(self, what: str, detail: str, times: int = 1) -> None:
        now, first = self._now(), self._now()
        for one in list(self._past)[-8:]:
            if (one.what, one.detail) == (what, detail) and now - one.at < ALIKE_SECONDS:
                self._past.remove(one)
                times, first = times + one.times, one.first_at
        self._past.append(StateChange(now, what, detail, times, first))


def differing_in_words(fact: EventsDiffer) -> str:
    """Say what is probably wrong, and what helps."""
    return (
        f"events seem to differ for each connection: this listener stored {fact.stored:,}, of which peers knew "
        f"{fact.known:,}, and peers stored {fact.of_peers:,}; map an id, or a payload without what differs"
    )


def said_of(gap: Gap) -> str:
    """Describe in a few words which events are missing where."""
    missing = "" if gap.missing is None else f", {gap.missing:,} missing"
    return f"{gap.source}, {gap.how.replace('_', ' ')}: from {gap.after or '?'} to {gap.resumed_at or '?'}{missing}"
