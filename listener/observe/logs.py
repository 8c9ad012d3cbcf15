"""Facts as log lines. A change of state is logged at info, a settled event at debug; a duplicate is never a warning.

At most ``MOST_ALIKE`` failed attempts with the same stage and error class are logged in a second, and as many burials
with the same class. One line says that more are left out. So a failing handler hides no failure of another kind.
Metrics count all of them, and letters have every attempt.

With ``REDACT``, texts that may quote a payload are withheld: a fact does not have the content of its event. The letter
keeps them, and ``dlq show`` prints them with the fields masked.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from unlost.listener.core.facts import (
    AttemptFailed,
    AttemptStarted,
    BatchDone,
    CursorNotSaved,
    CursorSaved,
    DeadLetterFileFailed,
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EffectHostPaused,
    EffectsRecorded,
    EventBuried,
    EventsClaimed,
    EventsDiffer,
    EventsDuplicate,
    EventsOfOtherShards,
    EventsStandBy,
    EventsStored,
    Fact,
    FramesReceived,
    FramesUnread,
    GapFetched,
    GapNotRecorded,
    HandlerRan,
    HealingInterrupted,
    KeysBlocked,
    LeasesLost,
    LettersReopened,
    LettersTriedInVain,
    NotAcknowledged,
    NotificationEnded,
    OrderGivenUp,
    PauseBegan,
    RedisForged,
    RoutePaused,
    SourceGap,
    SourceLost,
    StoreReplaced,
    StoreUnconfirmed,
    StoreWentBack,
    StoringPaused,
)
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor

_PER_EVENT = {EventsStored: "event_stored", EventsDuplicate: "event_duplicate"}
_AT_DEBUG = frozenset((*_PER_EVENT, FramesUnread, EventsOfOtherShards, EffectDelivered, EffectsRecorded))
_SILENT = frozenset((
    AttemptStarted, BatchDone, CursorSaved, EventsClaimed, EventsStandBy, FramesReceived, HandlerRan,
))  # fmt: skip
_WARN = (
    AttemptFailed, CursorNotSaved, EffectBuried, EffectFailed, EffectHostPaused, EventBuried, EventsDiffer,
    GapNotRecorded, HealingInterrupted, KeysBlocked, LeasesLost, LettersReopened, NotAcknowledged, OrderGivenUp,
    PauseBegan, RedisForged, RoutePaused, SourceGap, SourceLost, StoreReplaced, StoreUnconfirmed, StoreWentBack,
    StoringPaused,
)  # fmt: skip


_LIMITED = (AttemptFailed, EventBuried)
MOST_ALIKE = 20
"""Nobody reads more lines of one kind in a second, and to write a line costs as much as to store several events."""

MOST_KINDS = 10
"""So many kinds of them are counted apart in a second. All further ones share a count."""

_MAY_QUOTE = {
    EffectBuried: "message",
    EffectFailed: "why",
    EffectHostPaused: "why",
    AttemptFailed: "message",
    EventBuried: "message",
    HealingInterrupted: "why",
    LettersTriedInVain: "why",
    RoutePaused: "why",
}
"""Facts with a text of a handler or of PostgreSQL."""
_OF_SERVERS = ("start", "stop", "claim")
"""Stages at which no event's content is at work."""


def _is_warning(fact: Fact) -> bool:
    return (
        isinstance(fact, _WARN)
        or (isinstance(fact, GapFetched) and fact.outcome != "filled")
        or (isinstance(fact, NotificationEnded) and bool(fact.why))
    )


class ListenerLogs:
    """Logs the facts to which it subscribes."""

    def __init__(
        self,
        *,
        debug: bool,
        log: Any = None,
        redactor: Redactor = UNMASKED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one. ``log`` takes the lines; none: the process's own logger."""
        self._clock = clock
        self._second = 0
        self._in_this_second: Counter[tuple[str, ...]] = Counter()
        self._log = structlog.get_logger() if log is None else log
        self._redactor = redactor
        self.subscribes_to = frozenset(Fact.__subclasses__()) - _SILENT - (frozenset() if debug else _AT_DEBUG)

    def __call__(self, fact: Fact) -> None:
        """Log one fact."""
        if type(fact) not in self.subscribes_to or (isinstance(fact, _LIMITED) and self._is_left_out(fact)):
            return
        if isinstance(fact, EventsStored | EventsDuplicate):
            for event_id in fact.event_ids:
                self._log.debug(_PER_EVENT[type(fact)], event_id=event_id)
            return
        write = self._log.debug if type(fact) in _AT_DEBUG else self._log.info
        if _is_warning(fact):
            write = self._log.warning
        elif isinstance(fact, DeadLetterFileFailed):
            write = self._log.error
        write(_words(type(fact).__name__), **self._fields(fact))

    def _is_left_out(self, fact: AttemptFailed | EventBuried) -> bool:
        """Whether this second has had enough of these. The first that is left out is mentioned."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._in_this_second.clear()
        about = _kind_of(fact)
        kind = tuple(about.values())
        if kind not in self._in_this_second and len(self._in_this_second) >= MOST_KINDS:
            about, kind = {"of": "further kinds"}, ()
        self._in_this_second[kind] += 1
        number = self._in_this_second[kind]
        if number == MOST_ALIKE + 1:
            self._log.warning("lines_left_out", **about, logged_in_this_second=MOST_ALIKE)
        return number > MOST_ALIKE

    def _fields(self, fact: Fact) -> dict[str, Any]:
        fields = {name: getattr(fact, name) for name in fact.__struct_fields__}
        ids = fields.pop("event_ids", None) or fields.pop("letter_ids", None)
        if ids is not None:
            fields |= {"count": len(ids), "first_ids": list(ids[:3])}
        if isinstance(fact, SourceGap):
            fields = dict(msgspec.to_builtins(fact.gap))
        if isinstance(fact, AttemptFailed | SourceLost):
            trace = fields.pop("traceback")
            if trace and not getattr(fact, "retried", False):
                fields["exception"] = self._redactor.trace(trace) if isinstance(fact, AttemptFailed) else trace
        if (name := _MAY_QUOTE.get(type(fact))) and fields.get("stage") not in _OF_SERVERS:
            fields[name] = self._redactor.unknown(fields[name])
        return fields


def _kind_of(fact: AttemptFailed | EventBuried) -> dict[str, str]:
    of = {"of": _words(type(fact).__name__)}
    stage = {"stage": fact.stage} if isinstance(fact, AttemptFailed) else {}
    return of | stage | {"error_class": fact.error_class}


def _words(name: str) -> str:
    """Turn ``LeasesLost`` into ``leases_lost``: facts and log events share one vocabulary."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
