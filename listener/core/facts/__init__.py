"""Facts: what happens to events, to letters, and to all that a listener needs. Import each from here."""

from unlost.listener.core.fact import BreakerChanged, Fact, Facts, broadcast
from unlost.listener.core.facts.effects import (
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EffectHostPaused,
    EffectHostResumed,
    EffectsRecorded,
)
from unlost.listener.core.facts.events import (
    AttemptFailed,
    AttemptStarted,
    BatchDone,
    EventBuried,
    EventsClaimed,
    EventsDiffer,
    EventsDuplicate,
    EventsOfOtherShards,
    EventsStandBy,
    EventsStored,
    EventsTakenOver,
    FramesReceived,
    FramesUnread,
    HandlerRan,
    KeysBlocked,
    LeasesLost,
    OrderGivenUp,
    failed_attempt,
)
from unlost.listener.core.facts.letters import (
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    HealingInterrupted,
    LettersReopened,
    LettersResolved,
    LettersTriedInVain,
)
from unlost.listener.core.facts.pauses import (
    NotificationEnded,
    PauseBegan,
    PauseEnded,
    RoutePaused,
    RouteResumed,
)
from unlost.listener.core.facts.servers import (
    ClaimingChanged,
    PlacesDeclared,
    RedisForged,
    StoreReplaced,
    StoreUnconfirmed,
    StoreWentBack,
    StoringPaused,
    StoringResumed,
)
from unlost.listener.core.facts.sources import (
    CursorNotSaved,
    CursorSaved,
    GapFetched,
    GapNotRecorded,
    NotAcknowledged,
    ReadingPaused,
    ReadingResumed,
    SourceConnected,
    SourceGap,
    SourceLost,
)

__all__ = [
    "AttemptFailed", "AttemptStarted", "BatchDone", "BreakerChanged", "ClaimingChanged", "CursorNotSaved",
    "CursorSaved", "DeadLetterFileFailed", "DeadLetterFileRecovered", "EffectBuried", "EffectDelivered",
    "EffectFailed", "EffectHostPaused", "EffectHostResumed", "EffectsRecorded", "EventBuried", "EventsClaimed",
    "EventsDiffer", "EventsDuplicate", "EventsOfOtherShards", "EventsStandBy", "EventsStored",
    "EventsTakenOver", "Fact", "Facts",
    "FramesReceived", "FramesUnread", "GapFetched", "GapNotRecorded", "HandlerRan", "HealingInterrupted",
    "KeysBlocked", "LeasesLost", "LettersReopened", "LettersResolved", "LettersTriedInVain", "NotAcknowledged",
    "NotificationEnded", "OrderGivenUp", "PauseBegan", "PauseEnded", "PlacesDeclared", "ReadingPaused",
    "ReadingResumed", "RedisForged", "RoutePaused", "RouteResumed", "SourceConnected", "SourceGap", "SourceLost",
    "StoreReplaced", "StoreUnconfirmed", "StoreWentBack", "StoringPaused", "StoringResumed", "broadcast",
    "failed_attempt",
]  # fmt: skip
