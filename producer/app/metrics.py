"""The metrics of one producer."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from unlost.ops.kit.telemetry.metrics import COUNTS, BatchHistogram
from unlost.producer.app.upkeep import JournalCheck
from unlost.producer.journal.groups import Group
from unlost.producer.publish.accept import STATUS


class ProducerMetrics:
    """The metrics of a producer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        published = Counter(
            "unlost_producer_published_total", "Publish requests by outcome", ["outcome"], registry=registry
        )
        # Children are looked up once, because a look-up takes as long as an answer.
        self._published = {outcome: published.labels(outcome) for outcome in (*STATUS, "unavailable")}
        self._sent = Counter("unlost_producer_frames_sent_total", "Frames sent to clients", registry=registry)
        self._commit_events = BatchHistogram(
            "unlost_producer_commit_events", "Events in one commit", registry, buckets=COUNTS
        )
        self._commit_seconds = BatchHistogram("unlost_producer_commit_seconds", "One commit", registry)
        self._entries = Gauge("unlost_producer_journal_entries", "Entries that can be read", registry=registry)
        self._bytes = Gauge("unlost_producer_journal_bytes", "Size of the journal's file", registry=registry)
        self._oldest = Gauge("unlost_producer_journal_oldest", "Number of the oldest entry", registry=registry)
        self._newest = Gauge("unlost_producer_journal_newest", "Number of the newest entry", registry=registry)
        self._unread = Gauge(
            "unlost_producer_group_unread_entries", "Entries that a group has not settled", ["group"], registry=registry
        )
        self._dropped_unread = Gauge(
            "unlost_producer_journal_dropped_unread",
            "Entries that retention removed before a group had read them",
            registry=registry,
        )
        self._nearly_full = Gauge(
            "unlost_producer_journal_nearly_full",
            "1 while most of MAX_JOURNAL_BYTES are events that a group has not read",
            registry=registry,
        )
        self.damaged = Gauge(
            "unlost_producer_journal_damaged_entries",
            "Damaged entries found since the start",
            registry=registry,
        )
        self.clients = Gauge("unlost_producer_clients", "WebSocket clients", registry=registry)
        self.lag = Gauge(
            "unlost_producer_stream_lag_entries", "Entries not yet sent to the slowest client", registry=registry
        )

    def count_outcome(self, outcome: str, count: int) -> None:
        """Count answers by outcome."""
        self._published[outcome].inc(count)

    def sent(self, count: int) -> None:
        """Count frames that were sent."""
        self._sent.inc(count)

    def committed(self, count: int, seconds: float) -> None:
        """Record a commit that is on disk."""
        self._commit_events.observe(count)
        self._commit_seconds.observe(seconds)

    def groups(self, groups: Sequence[Group], newest: int) -> None:
        """Show how much each group has not settled."""
        self._unread.clear()
        for group in groups:
            if not group.forgotten:
                self._unread.labels(group.name).set(max(0, newest - group.settled))

    def journal(self, looked: JournalCheck) -> None:
        """Show what the journal holds."""
        stats = looked.stats
        self._nearly_full.set(bool(looked.full or looked.nearly))
        self._dropped_unread.set(stats.dropped_unread)
        self._entries.set(stats.entries)
        self._bytes.set(stats.size)
        self._oldest.set(stats.oldest)
        self._newest.set(stats.newest)
