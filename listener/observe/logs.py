"""Facts as log lines. A change of state is logged at info, a settled event at debug; a duplicate is never a warning."""

import re

import structlog

from unlost.listener.core.facts import (
    AttemptFailed,
    BatchDone,
    CursorNotSaved,
    CursorSaved,
    DeadLetterFileFailed,
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsStandBy,
    EventsStored,
    Fact,
    FramesReceived,
    FramesUnread,
    HandlerRan,
    LeasesLost,
    LettersReopened,
    SourceGap,
    SourceLost,
    StoreReplaced,
    StoreWentBack,
    StoringPaused,
)

_PER_EVENT = {EventsStored: "event_stored", EventsDuplicate: "event_duplicate"}
_AT_DEBUG = frozenset((*_PER_EVENT, FramesUnread))
_SILENT = frozenset((BatchDone, CursorSaved, EventsClaimed, EventsStandBy, FramesReceived, HandlerRan))
_WARN = (
    AttemptFailed, CursorNotSaved, EventBuried, LeasesLost, LettersReopened, SourceGap, SourceLost, StoreReplaced,
    StoreWentBack, StoringPaused,
)  # fmt: skip


class ListenerLogs:
    """Logs the facts to which it subscribes."""

    def __init__(self, *, debug: bool) -> None:
        self._log = structlog.get_logger()
        self.subscribes_to = frozenset(Fact.__subclasses__()) - _SILENT - (frozenset() if debug else _AT_DEBUG)

    def __call__(self, fact: Fact) -> None:
        """Log one fact."""
        if type(fact) not in self.subscribes_to:
            return
        if isinstance(fact, EventsStored | EventsDuplicate):
            for event_id in fact.event_ids:
                self._log.debug(_PER_EVENT[type(fact)], event_id=event_id)
            return
        fields = {name: getattr(fact, name) for name in fact.__struct_fields__}
        ids = fields.pop("event_ids", None) or fields.pop("letter_ids", None)
        if ids is not None:
            fields |= {"count": len(ids), "first_ids": list(ids[:3])}
        if isinstance(fact, AttemptFailed):
            trace = fields.pop("traceback")
            if trace and not fact.retried:
                fields["exception"] = trace
        write = self._log.debug if type(fact) in _AT_DEBUG else self._log.info
        if isinstance(fact, _WARN):
            write = self._log.warning
        elif isinstance(fact, DeadLetterFileFailed):
            write = self._log.error
        write(_words(type(fact).__name__), **fields)


def _words(name: str) -> str:
    """Turn ``LeasesLost`` into ``leases_lost``: facts and log events share one vocabulary."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
