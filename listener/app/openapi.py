"""The description of the listener's HTTP endpoint, as OpenAPI 3.1."""

from typing import Any

from unlost.ops.kit.telemetry.openapi import (
    NUMBER,
    OR_NULL,
    TEXT,
    WHOLE,
    Schema,
    answer,
    by_name,
    document,
    either,
    get_operation,
    in_path,
    many,
    mistake,
    query,
    record,
)

MOST_IDS = 500
MOST_ROWS = 500
LAST = 2**63 - 1
"""The highest ``seq`` that PostgreSQL can count to."""

ROW: Schema = record(
    {
        "event_id": TEXT, "seq": WHOLE, "type": either(TEXT, OR_NULL), "payload": {}, "other": {}, "instance_id": TEXT,
        "epoch": WHOLE, "attempts": WHOLE, "received_at": {**TEXT, "format": "date-time"},
        "processed_at": {**TEXT, "format": "date-time"}, "handler": either(TEXT, OR_NULL),
        "letter_version": either(WHOLE, OR_NULL),
    }
)  # fmt: skip
HAPPENED: Schema = record({"at": NUMBER, "what": TEXT, "detail": TEXT})
IN_FLIGHT: Schema = record(
    {"state": {"enum": ["owner", "waiting"]}, "epoch": WHOLE, "failed_attempts": WHOLE, "received_at": NUMBER}
)
STORY: Schema = record(
    {"event_id": TEXT, "row": either(ROW, OR_NULL), "in_flight": either(IN_FLIGHT, OR_NULL), "recent": many(HAPPENED)},
    row_unknown=TEXT,
)
OUTCOMES: Schema = record({"instance": TEXT, "outcomes": by_name(many(HAPPENED)), "in_flight": by_name(IN_FLIGHT)})
ROWS: Schema = record({"events": many(ROW), "next": either(WHOLE, OR_NULL), "behind_seconds": either(NUMBER, OR_NULL)})
WAITING: Schema = record({
    "instance": TEXT,
    "waiting": many(record({
        "event_id": TEXT, "type": either(TEXT, OR_NULL), "route": TEXT, "attempt": WHOLE,
        "seconds": NUMBER, "error": TEXT,
    })),
})  # fmt: skip
AWAY = mistake("PostgreSQL does not answer now")
WRONG_IDS = mistake("No ids, or too many")


def page_of_rows(most: int, away: dict[str, Any]) -> dict[str, Any]:
    """A GET operation that returns rows, page by page. The console has the same."""
    return get_operation(
        "Rows, the newest first",
        answer("Rows; `next` is the `before` of the next page, `behind_seconds` the age of a standby's copy", ROWS),
        query("before", "Only rows with a lower `seq`", {**WHOLE, "minimum": 0, "maximum": LAST}),
        query("limit", "Rows, at most", {**WHOLE, "minimum": 1, "maximum": most, "default": 50}),
        _400=mistake("A wrong limit, or before"), _503=away,
    )  # fmt: skip


def several_ids(most: int) -> dict[str, Any]:
    """The query parameter that names events."""
    return query("ids", f"1 to {most} ids with commas between them", {**TEXT, "pattern": "[^,]"}, required=True)


DOCUMENT: dict[str, Any] = document("Unlost listener", "Look at one listener: its health, and what became of events.", {
    "/api/events": page_of_rows(MOST_ROWS, AWAY),
    "/api/events/{event_id}": get_operation(
        "One event: its row, where it stands in memory, and what lately happened to it here",
        answer("What is known", STORY), in_path("event_id", "The event's id"),
        _404=answer("Nothing is known here", STORY), _503=AWAY,
    ),
    "/asyncapi.json": get_operation("What the handler receives, with the payloads' schemas", answer("AsyncAPI 3.0")),
    "/api/outcomes": get_operation(
        "What lately happened to these events here",
        answer("Stories by id", OUTCOMES),
        several_ids(MOST_IDS), _400=WRONG_IDS,
    ),
    "/api/waiting": get_operation(
        "Events between two attempts, the next attempt first", answer("Events", WAITING),
        query("limit", "Events, at most", {**WHOLE, "minimum": 1, "maximum": MOST_ROWS, "default": 50}),
        _400=mistake("A wrong limit"),
    ),
})  # fmt: skip
