"""Whether entries are what was accepted: the disk may have changed a byte, and each has a digest beside it. Pure."""

from collections.abc import Sequence

from listener.errors import InvalidEvent
from listener.event import Event, parse
from listener.together import plain_events
from producer.journal.port import Entry


def damaged_of(entries: Sequence[Entry]) -> list[Entry]:
    """Those whose text is not the one that was accepted under this id."""
    largest = max([len(entry.body) for entry in entries], default=0)
    events = plain_events([entry.body for entry in entries], max_bytes=largest)
    if events is None:
        return [entry for entry in entries if not _is_whole(entry)]
    return [entry for entry, event in zip(entries, events, strict=True) if not _is(entry, event)]


def _is_whole(entry: Entry) -> bool:
    try:
        return _is(entry, parse(entry.body, max_bytes=len(entry.body)))
    except InvalidEvent:
        return False


def _is(entry: Entry, event: Event) -> bool:
    return (event.event_id, event.digest) == (entry.event_id, entry.digest)
