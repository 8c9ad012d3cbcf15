"""Every metric of Unlost: what it is, what changes it, when to worry. Prints ``docs/metrics.md``.

Tests compare this table with the metrics of running processes, and the page with ``docs/metrics.md``.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True):
    """One metric. A counter's name ends with ``_total``; a histogram's name is for its three series."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    moves: str
    worry: str


def _metric(name: str, kind: Kind, labels: str, moves: str, worry: str) -> Metric:
    return Metric(f"unlost_{name}", kind, tuple(labels.split()), moves, worry)


NEVER = "never"
BOTH = (
    _metric("build_info", "gauge", "version", "nothing; always 1", "when instances differ for longer than an upgrade"),
    _metric("event_loop_lag_seconds", "gauge", "", "code that blocks the loop, a machine without a free core",
            "above 0.25 for a minute"),
    _metric("refused_requests_total", "counter", "reason", "each refused request; the log names the sender",
            "`token`, `locked`: somebody guesses, or has an old token; `rate`: an identity is at its limit; "
            "`provider`: the identity provider fails; `host`, `origin`: a foreign page, or a name "
            "that ALLOWED_HOSTS lacks; `handshake`: unfinished TLS handshakes were dropped for others"),
    _metric("tokens_unreadable", "gauge", "", "1 while TOKENS_FILE or SENDERS_FILE cannot be used",
            "1: it still has its earlier content"),
    _metric("certificate_unusable", "gauge", "", "1 while a changed TLS_CERT cannot be used; the old one is served",
            "1"),
    _metric("tls_handshakes", "gauge", "", "unfinished TLS handshakes; 256 at most",
            "near 256: clients begin handshakes and do not finish them"),
)  # fmt: skip
PRODUCER = (
    _metric("producer_published_total", "counter", "outcome", "each answer to a publish request",
            "`unavailable`: the journal cannot be written; `invalid`, `conflict`: a publisher has a bug"),
    _metric("producer_frames_sent_total", "counter", "", "frames sent to clients",
            "does not grow while events are accepted"),
    _metric("producer_commit_events", "histogram", "", "each commit of the journal", NEVER),
    _metric("producer_commit_seconds", "histogram", "", "each commit of the journal", "a slow disk: above 0.1"),
    _metric("producer_journal_entries", "gauge", "", "publishing and retention; updated every 30 s", NEVER),
    _metric("producer_journal_bytes", "gauge", "", "publishing and retention", "near MAX_JOURNAL_BYTES too early"),
    _metric("producer_journal_oldest", "gauge", "", "retention", "when it comes near a reader's position"),
    _metric("producer_journal_newest", "gauge", "", "publishing", NEVER),
    _metric("producer_group_unread_entries", "gauge", "group", "publishing, and the reports of a group's listeners",
            "growing: MAX_JOURNAL_BYTES of them, and publishing is refused"),
    _metric("producer_journal_dropped_unread", "gauge", "", "retention, if a group was forgotten or unknown",
            "above 0, if groups should have read everything"),
    _metric("producer_journal_nearly_full", "gauge", "",
            "1 while four fifths of MAX_JOURNAL_BYTES are events that a group has not read; updated every 30 s", "1"),
    _metric("producer_journal_damaged_entries", "gauge", "", "entries that differ from what was accepted, once read",
            "above 0: see `journal_entry_damaged` in the log"),
    _metric("producer_clients", "gauge", "", "WebSocket clients that come and go", "fewer than there are listeners"),
    _metric("producer_stream_lag_entries", "gauge", "", "how far the slowest client is behind",
            "growing for 5 minutes"),
)  # fmt: skip
FLOW = (
    _metric("frames_received_total", "counter", "", "frames from the source", "does not grow"),
    _metric("frame_bytes_total", "counter", "", "their bytes", NEVER),
    _metric("events_total", "counter", "outcome", "each event that ended here; `duplicate`: settled before or "
            "elsewhere; `other_shard`: stored by another shard", "`buried` grows"),
    _metric("shards", "gauge", "base number", "nothing: how many shards the group has, and which of them this is",
            "when a shard is missing, or listeners differ in the number of shards"),
    _metric("settle_seconds", "histogram", "", "each stored event: from receipt to settlement",
            "more than 0.1 % above 5"),
    _metric("batch_events", "histogram", "stage", "each batch of a stage", NEVER),
    _metric("batch_seconds", "histogram", "stage", "each batch of a stage", "one stage grows while the others do not"),
    _metric("in_memory_events", "gauge", "", "receipt and settlement", "at MAX_EVENTS: reading pauses"),
    _metric("in_memory_bytes", "gauge", "", "receipt and settlement", "at MAX_BYTES: reading pauses"),
    _metric("oldest_unsettled_seconds", "gauge", "", "the age of the oldest event in memory", "above 120"),
    _metric("unsettled_positions", "gauge", "", "positions behind the cursor, not settled yet",
            "grows for long: one event holds the cursor back"),
    _metric("cursor_save_failures_total", "counter", "", "a write of the cursor that failed", "grows for 10 minutes"),
    _metric("store_changes_total", "counter", "what", "PostgreSQL lacks commits (`went_back`), or may lack some: it "
            "crashed or failed over (`replaced`), or Redis did not confirm it to a listener that started "
            "(`unconfirmed`). Lost events are read again", "`went_back` grows without a restore"),
)  # fmt: skip
CLAIMS = (
    _metric("claims_total", "counter", "answer", "claims `won`, `held` by another, `taken_over` from one that vanished",
            "`taken_over` grows without a restart"),
    _metric("claims_held", "gauge", "", "claims won and given up", "high, while nothing is stored"),
    _metric("redis_remembers_seconds", "gauge", "", "how full Redis is",
            "below DEDUP_WINDOW for hours: Redis is small"),
    _metric("redis_forged_total", "counter", "", "settled records in Redis that no listener wrote, with REDIS_SECRET",
            "any: somebody else writes to Redis"),
    _metric("standing_by", "gauge", "", "events that another listener holds", "high, for longer than a lease"),
    _metric("leases_lost_total", "counter", "", "leases that were not renewed in time",
            "any: a handler may have run twice"),
    _metric("handlers_differ", "gauge", "", "1 while a live peer has another handler: this listener waits",
            "1 for a minute"),
    _metric("claiming_open", "gauge", "", "1 while new events may be started", "0 for a minute"),
    _metric("degraded", "gauge", "", "1 while claims are kept without Redis", "1 for 10 minutes"),
    _metric("degraded_seconds_total", "counter", "", "seconds in degraded mode", "grows for 10 minutes"),
    _metric("breaker_open", "gauge", "name", "1 while calls to `redis` or `postgres` fail", "1 for a minute"),
)  # fmt: skip
TRIES = (
    _metric("handler_runs_total", "counter", "route result", "attempts of the handler, by route", "`failed` grows"),
    _metric("handler_retries_total", "counter", "route", "attempts that were not the first of their event",
            "grows steadily"),
    _metric("handler_seconds", "histogram", "route", "attempts of the handler", "near HANDLE_TIMEOUT"),
    _metric("attempts_failed_total", "counter", "stage error_class", "failed attempts; `permanent` is not tried again",
            "grows steadily"),
    _metric("notifications_total", "counter", "target outcome", "notifications of people; `given_up` after 12 attempts",
            "`given_up` grows"),
    _metric("pause_seconds", "gauge", "kind name",
            "how long a person's pause of this listener, or of a route of its handler, has lasted",
            "3,600: perhaps it was forgotten"),
    _metric("events_pausing", "gauge", "route",
            "events in memory that wait for another attempt, or for a route that pauses",
            "near MAX_EVENTS / 8: further ones become letters, reason `deferred`"),
    _metric("route_paused", "gauge", "route", "1 while nearly every attempt of a route fails in the same way: its "
            "events wait", "1 for a minute"),
    _metric("effects_total", "counter", "outcome", "effects of handlers: recorded, delivered, failed (attempts), or "
            "buried as letters", "`buried` grows"),
    _metric("effect_seconds", "histogram", "", "one delivery of an effect that succeeded", "near EFFECT_TIMEOUT"),
    _metric("effects_waiting", "gauge", "", "effects of the group that are not delivered yet, up to 10,000", "grows "
            "steadily"),
    _metric("effects_oldest_seconds", "gauge", "", "age of the oldest effect that waits", "above 900"),
    _metric("effect_hosts_paused", "gauge", "", "hosts to which nearly every delivery fails: their effects "
            "wait", "1 for a minute"),
    _metric("retries_total", "counter", "stage", "failed attempts that were followed by another", "grows steadily"),
)  # fmt: skip
SOURCE = (
    _metric("source_connected", "gauge", "source", "1 while the source is connected", "0 for a minute"),
    _metric("source_disconnects_total", "counter", "source", "connections that ended or failed", "several a minute"),
    _metric("source_gaps_total", "counter", "source how size", "declared gaps: events of a source were not received. "
            "`size`: whether the number of missing events is `known`; for `how`, see Connect a feed",
            "any: see the table `gaps`"),
    _metric("source_missing_events_total", "counter", "source", "missing events of declared gaps, if known", "any"),
    _metric("source_unacknowledged_total", "counter", "source", "messages of a feed that lack a value its "
            "acknowledgement needs", "any: the feed sends them again, or thinks that they are lost"),
    _metric("source_lag_seconds", "gauge", "source", "the age of the oldest event of the source in memory",
            "above 120"),
    _metric("gaps_fetched_total", "counter", "outcome", "tries to fetch what declared gaps missed: `filled`, `partly`, "
            "`failed`, or `again` later", "`partly` and `failed`: see `why` in the table `gaps`"),
    _metric("gap_events_found_total", "counter", "", "missed events that were fetched later", "stands still"),
    _metric("source_messages_total", "counter", "source", "messages taken from the source",
            "stands still although the source sends"),
    _metric("source_unsettled_events", "gauge", "source", "received from the source, and not settled yet",
            "grows for long"),
    _metric("reading_paused", "gauge", "source", "1 while reading pauses: memory or disk full, or PostgreSQL away",
            "1 for 5 minutes"),
    _metric("reading_paused_seconds_total", "counter", "", "seconds of each pause, counted at its end",
            "grows steadily"),
    _metric("storing_paused", "gauge", "", "1 while PostgreSQL takes no rows, and events wait",
            "1 for a minute"),
)  # fmt: skip
LETTERS = (
    _metric("letters_total", "counter", "reason error_class", "letters that this process wrote", "grows"),
    _metric("dead_letters", "gauge", "status", "letters in the file, by what became of them; updated every 5 s",
            "`quarantined` above 0"),
    _metric("dead_letters_unresolved", "gauge", "reason", "letters that a replay would take", "above 0"),
    _metric("dead_letters_unresolved_groups", "gauge", "", "different failures (fingerprints) among them",
            "grows: something new fails; `dlq groups` shows what"),
    _metric("dead_letters_unresolved_by_fingerprint", "gauge", "fingerprint",
            "letters that a replay would take, of the ten failures that have most in this file; others have no series",
            "one grows: `dlq groups` shows what it is"),
    _metric("dead_letters_oldest_unresolved_seconds", "gauge", "", "age of the oldest of them", "above 3600"),
    _metric("dead_letters_damaged", "gauge", "", "lines that are no letters", "above 0"),
    _metric("dead_letter_file_bytes", "gauge", "", "letters, and `dlq compact`", NEVER),
    _metric("dead_letter_disk_free_bytes", "gauge", "", "whatever is on that disk", "below 512 MiB"),
    _metric("letters_tried_in_vain_total", "counter", "", "letters that failed again when a listener retried them",
            "grows for hours: `dlq groups` shows which letters"),
    _metric("letters_resolved_total", "counter", "", "letters that needed no replay, or healed", NEVER),
    _metric("letters_healing", "gauge", "", "letters of the whole group that heal by themselves", NEVER),
    _metric("letters_needing_human", "gauge", "", "letters of the whole group that wait for a human", "above 0"),
    _metric("letters_needing_human_seconds", "gauge", "", "age of the oldest of them", "above 3600"),
    _metric("blocked_keys", "gauge", "", "keys of the whole group that a dead letter blocks (`ORDER_BY`)",
            "above 0: `dlq keys`"),
    _metric("blocked_key_seconds", "gauge", "", "for how long the longest of them", "above 3600"),
    _metric("order_given_up_total", "counter", "", "letters behind which later events of their keys went on "
            "(policy `continue`)", "any: the order of those keys has a hole"),
    _metric("reading_stopped_by_key", "gauge", "", "1 while nothing is read, since a key is blocked "
            "(policy `stop`)", "1: `dlq keys`"),
    _metric("letters_next_try_seconds", "gauge", "", "seconds until the next letter is retried", NEVER),
    _metric("dead_letters_unshipped_bytes", "gauge", "", "letters that are not in the fleet's list yet",
            "above 0 for minutes, while PostgreSQL answers"),
    _metric("dead_letters_unshipped_seconds", "gauge", "", "for how long they have been missing there", "above 300"),
    _metric("dead_letter_file_failed", "gauge", "", "1 while the file cannot be written", "1: reading has stopped"),
)  # fmt: skip
CONSOLE = (
    _metric(
        "drill_running",
        "gauge",
        "drill",
        "1 from the start of `unlost drill` until the system has recovered",
        "never: dashboards mark it",
    ),
    _metric(
        "drill_damage", "gauge", "drill", "1 from the damage until it is healed", "1, without a drill that you know of"
    ),
    _metric("audit_at_seconds", "gauge", "", "the end of the last audit of all events, in seconds since 1970; "
            "if none is known, the start of the console",
            "older than a day, if audits are scheduled"),
    _metric("audit_wrong", "gauge", "column", "what the last audit found wrong: events, or lines of letters",
            "above 0"),
)  # fmt: skip
SECTIONS: tuple[tuple[str, str, tuple[Metric, ...]], ...] = (
    ("Every process", "Besides these: the Python client's metrics of process, platform and garbage collector.", BOTH),
    ("The producer", "", PRODUCER),
    ("Flow", "Of a listener, as all that follow.", FLOW),
    ("Claims", "", CLAIMS),
    ("Attempts", "", TRIES),
    ("The source", "", SOURCE),
    ("Dead letters", "", LETTERS),
    ("The console", "Each drill that has been reported to it since its start, and the last `unlost audit`.", CONSOLE),
)
OF_PRODUCER = BOTH + PRODUCER
OF_CONSOLE = BOTH + CONSOLE
OF_LISTENER = BOTH + FLOW + CLAIMS + TRIES + SOURCE + LETTERS
HEAD = """# Metrics

Made by `make reference`; do not edit. `GET /metrics` of a listener (port 3000), of the producer (port 3005) and of the
console (port 3006) shows these. Labels have few and fixed values, except `fingerprint`, of which a listener shows ten
at most. `route` is one of the functions that the handler declares: `unlost handlers` lists them. No label holds an
event's id. A counter of a known outcome starts at 0.
The `_created` series of the Python client are left out.
[Alerts](../ops/deploy/prometheus/alerts.yml) watch the important ones, and the [runbook](runbook.md) says what to do.
"""


TABLE = "| name | type | labels | what moves it | when to worry |\n|---|---|---|---|---|\n"


def page() -> str:
    """Return the page as Markdown."""
    return HEAD + "".join(_section(*one) for one in SECTIONS)


def _section(title: str, about: str, metrics: Iterable[Metric]) -> str:
    head = f"\n## {title}\n\n" + (f"{about}\n\n" if about else "")
    return (
        head
        + "| name | type | labels | what moves it | when to worry |\n|---|---|---|---|---|\n"
        + "".join(map(_row, metrics))
    )


def _row(one: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{one.name}` | {one.kind} | {labels} | {one.moves} | {one.worry} |\n"


if __name__ == "__main__":
    print(page(), end="")
