"""The OpenAPI 3.1 description of the console. Bodies that types decode are described by the same types."""

from typing import Any

import msgspec

from unlost.listener.app.openapi import HAPPENED, IN_FLIGHT, ROW, WAITING, WRONG_IDS, page_of_rows, several_ids
from unlost.listener.core.pause import Pause
from unlost.ops.console.drills import DrillReport
from unlost.ops.console.guard import OWN_HEADER
from unlost.ops.console.history import History
from unlost.ops.console.pause_routes import PauseRequest
from unlost.ops.console.replays import ReplayRequest
from unlost.ops.console.selecting import LettersRequest
from unlost.ops.console.shelf import MOST_LISTED
from unlost.ops.kit.telemetry.openapi import (
    NUMBER,
    OR_NULL,
    TEXT,
    TRUTH,
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
from unlost.ops.watch.picture import Picture
from unlost.ops.watch.verdict import Verdict

MOST_ROWS = 200
MOST_IDS = 100
HTML = "text/html"

_TYPES = (LettersRequest, ReplayRequest, DrillReport, Picture, Verdict, History, PauseRequest, Pause)
_SCHEMAS, COMPONENTS = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
_letters_request, _replay_request, _drill_report, _picture, _verdict, _history, _pause_request, _pause = _SCHEMAS
AWAY = mistake("A part that is needed for the answer is away")
STATE = record(
    {"status": TEXT, "failed_replays": WHOLE, "at": either(TEXT, OR_NULL), "detail": TEXT, "error_type": TEXT},
    version=WHOLE, assigned=TEXT,
)  # fmt: skip
KIND = {name: either(TEXT, OR_NULL) for name in ("type", "route", "handler")}
LETTER = record({
    "letter_id": TEXT, "event_id": TEXT, "reason": TEXT, "error_class": TEXT, "stage": TEXT, "message": TEXT,
    "fingerprint": TEXT, "first_at": TEXT, "last_at": TEXT, "instance": TEXT, "state": STATE, **KIND,
    "offset": either(WHOLE, OR_NULL), "file": TEXT,
})  # fmt: skip
KEY = record({
    "order_key": TEXT, "since": NUMBER, "letters": WHOLE, "letter_id": either(TEXT, OR_NULL), "event_id": TEXT,
    **{name: either(TEXT, OR_NULL) for name in ("reason", "status", "error_type")}, "stops": either(TRUTH, OR_NULL),
})  # fmt: skip
GROUP = record({
    "fingerprint": TEXT, "reason": TEXT, "error_type": TEXT, "message": TEXT, "first_at": TEXT, "last_at": TEXT,
    "by_state": by_name(WHOLE), **KIND,
})  # fmt: skip
PAUSES = record({"pauses": many(_pause)})
CHANGED = record({"changed": TRUTH, "warning": TEXT, "pauses": many(_pause)})
STEP = record({"at": NUMBER, "who": TEXT, "what": TEXT, "detail": TEXT})
KNOWN = record({"url": TEXT, "instance": TEXT, "recent": many(HAPPENED), "in_flight": either(IN_FLIGHT, OR_NULL)})
STORY = record({
    "event_id": TEXT, "sentence": TEXT, "steps": many(STEP), "journal": {"type": ["object", "null"]},
    "row": either(ROW, OR_NULL), "letters": many(LETTER), "listeners": many(KNOWN), "away": by_name(TEXT),
    "found": TRUTH, "links": by_name(TEXT),
})  # fmt: skip
DRILLS = many(record({"drill": TEXT, "state": TEXT}))
OVERVIEW = record({
    "verdict": _verdict, "picture": _picture, "behind": either(WHOLE, OR_NULL), "needs_token": TRUTH,
    "redacted": many(TEXT), "handler": either(TEXT, OR_NULL), "links": by_name(TEXT), "drills": DRILLS,
})  # fmt: skip
REPLAY = record({
    "replay_id": TEXT, "request": _replay_request, "began_at": NUMBER, "ended_at": either(NUMBER, OR_NULL),
    "state": {"enum": ["running", "cancelling", "done", "cancelled", "failed"]}, "total": WHOLE, "done": WHOLE,
    "resolved": WHOLE, "already_stored": WHOLE, "failed": WHOLE, "quarantined": WHOLE,
    "parts": many(record({"file": TEXT, "plan": {"type": "object"}, "report": {"type": "object"}, "said": many(TEXT)})),
})  # fmt: skip
PLANS = record({
    "plans": many(record({"file": TEXT, "letters": WHOLE, "by_reason": by_name(WHOLE), "damaged": WHOLE})),
    "letters": WHOLE,
})  # fmt: skip
LINK = record({
    "number": WHOLE, "at": WHOLE, "who": TEXT, "origin": TEXT, "what": TEXT, "about": TEXT, "why": TEXT, "result": TEXT,
    "previous": TEXT, "hash": TEXT,
})  # fmt: skip
_OWN = {
    "name": OWN_HEADER, "in": "header", "required": True, "schema": {"enum": ["1"]},
    "description": "A page of another site cannot add it",
}  # fmt: skip
_REFUSED = {
    "400": mistake("The body is wrong, and why"),
    "401": mistake("The token is missing or wrong (`Authorization: Bearer …`)"),
    "403": mistake("A page of another site, or the header is missing"),
    "404": mistake("No such letter, file or replay"),
    "409": mistake("Too many drills run already"),
    "413": mistake("Too large"),
    "429": mistake("This identity runs as many replays as it may, or its address sent too many wrong tokens"),
    "503": AWAY,
}


def _post_operation(
    summary: str, done: dict[str, dict[str, Any]], body: Schema | None = None, *parameters: dict[str, Any],
    media_type: str = "application/json", also: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    operation: dict[str, Any] = {"summary": summary, "parameters": [_OWN, *parameters]}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {media_type: {"schema": body}}}
    return {"post": {**operation, "responses": {**done, **_REFUSED, **(also or {})}}}


_REDELIVER = query("redeliver", "Send a known id once more", TRUTH)
_PUBLISHED = {
    status: answer("The producer's answer", {"type": "object"}) for status in ("202", "400", "409", "413", "503")
}
_LINES = {"content": {"application/x-ndjson": {"schema": TEXT}}}
FILTERS = [
    query("fingerprint", "Only letters whose fingerprint begins with this", TEXT),
    query("state", "Only letters in one of these states, with commas between them", TEXT),
    query("type", "Only events of this type; may occur several times", many(TEXT)),
    query("since", "From this time on: ISO 8601, or an age such as 7d", TEXT),
    query("until", "Before this time or age", TEXT),
    query("begins", "Only letters whose id, or event's id, begins with this", TEXT),
    query("text", "Only letters whose error contains this, in any case", TEXT),
    query("payload", "Only events whose payload contains this: customer.id=17, or an object in JSON", TEXT),
]
_PLACED = {
    "200": {"description": "An outcome a line", **_LINES},
    "413": {"description": "Too large", "content": {**_LINES["content"], **answer("", {})["content"]}},
    "503": {"description": "Unavailable", "content": {**_LINES["content"], **AWAY["content"]}},
}

SIGNED_IN = answer("The person's name; null if nobody has", record({"oidc": TRUTH, "user": either(TEXT, OR_NULL)}))
SENT = {
    "303": {"description": "To the provider, or back to the page"}, "404": mistake("There is no OIDC_ISSUER"),
    **{status: answer("A page that says why", TEXT, "text/html") for status in ("400", "502", "503")},
    "403": {"description": "Why", "content": {"text/html": {"schema": TEXT}, **mistake("")["content"]}},
}  # fmt: skip

PATHS: dict[str, Any] = {
    "/api/overview": get_operation("The state of everything, and the verdict", answer("The overview", OVERVIEW)),
    "/api/events": page_of_rows(MOST_ROWS, AWAY),
    "/api/events/{event_id}": get_operation(
        "Everything known of one event", answer("The story", STORY), in_path("event_id", "The event's id"),
        _404=answer("No part of the system knows it", STORY), _503=AWAY,
    ),
    "/api/follow": get_operation(
        "What the listeners know of events",
        answer("Stories by id", record({"outcomes": by_name(many(HAPPENED)), "away": by_name(TEXT)})),
        several_ids(MOST_IDS), _400=WRONG_IDS,
    ),
    "/api/publish": _post_operation(
        "Pass one event to the producer", _PUBLISHED, {"type": "object"}, _REDELIVER,
        also={status: one for status, one in _PUBLISHED.items() if status != "202"},
    ),
    "/api/publish/batch": _post_operation(
        "Pass many events to the producer, one per line", {}, TEXT, _REDELIVER,
        media_type="application/x-ndjson", also=_PLACED,
    ),
    "/api/letters/groups": get_operation(
        "Letters that failed alike, and files that cannot be found or read",
        answer("Groups", record({"groups": many(GROUP), "errors": many(TEXT)})), *FILTERS,
        _400=mistake("A wrong filter"), _503=AWAY,
    ),
    "/api/letters": get_operation(
        "The latest letters, without their events",
        answer("Letters", record({"letters": many(LETTER), "count": WHOLE})),
        *FILTERS,
        query("limit", "Letters, at most", {**WHOLE, "minimum": 1, "maximum": MOST_LISTED, "default": MOST_LISTED}),
        _400=mistake("A wrong limit or filter"), _503=AWAY,
    ),
    "/api/letters/keys": get_operation(
        "Keys that a letter blocks (ORDER_BY), the longest blocked first",
        answer("Keys", record({"keys": many(KEY), "away": TEXT})),
        query("limit", "Keys, at most", {**WHOLE, "minimum": 1, "maximum": MOST_LISTED, "default": MOST_LISTED}),
        _400=mistake("A wrong limit"), _503=AWAY,
    ),
    "/api/letters/{letter_id}": get_operation(
        "One letter in full", answer("The letter", LETTER), in_path("letter_id", "The letter's whole id"),
        _404=mistake("No such letter"), _503=AWAY,
    ),
    "/api/letters/archive": _post_operation(
        "Archive letters, with a reason; or count them, with dry_run",
        {"200": answer("How many; with dry_run, how many of them block", record({"archived": WHOLE}, blocking=WHOLE))},
        _letters_request,
    ),
    "/api/letters/restore": _post_operation(
        "Restore letters; or count them, with dry_run",
        {"200": answer("How many", record({"restored": WHOLE}))}, _letters_request,
    ),
    "/api/replays": {
        **get_operation("The replays of this console", answer("The latest first", record({"replays": many(REPLAY)}))),
        **_post_operation(
            "Replay letters, or show the plan only",
            {"200": answer("The plan, with dry_run", PLANS), "202": answer("Begun", REPLAY)}, _replay_request,
        ),
    },
    "/api/replays/{replay_id}/cancel": _post_operation(
        "Stop a replay after the work in flight; a second time: at once", {"200": answer("The replay", REPLAY)}, None,
        in_path("replay_id", "The replay's id"),
    ),
    "/api/waiting": get_operation(
        "Events between two attempts, of all listeners",
        answer("By listener", record({"listeners": many(WAITING), "away": by_name(TEXT)})),
    ),
    "/api/gaps": get_operation(
        "Declared gaps of sources, the latest first",
        answer("Gaps", record({"gaps": many({"type": "object"}), "count": WHOLE})), _503=AWAY,
    ),
    "/api/pauses": {
        **get_operation("Listeners and routes that a person paused", answer("Pauses", PAUSES), _503=AWAY),
        **_post_operation(
            "Pause a listener or a route, with a reason",
            {"200": answer("Whether it was not paused yet, and all pauses", CHANGED)},
            _pause_request,
        ),
    },
    "/api/pauses/end": _post_operation(
        "Resume a listener or a route", {"200": answer("Whether it was paused, and all pauses", CHANGED)},
        _pause_request,
    ),
    "/api/effects": get_operation(
        "Effects of handlers, the newest first, and what waits for each host",
        answer("Effects", record({"effects": many({"type": "object"}), "hosts": many({"type": "object"})})),
        query("status", "Only effects of this status", {"enum": ["waiting", "delivered", "buried"]}),
        query("before", "Only effects with a lower `seq`", {**WHOLE, "minimum": 0}), _400=mistake("A wrong number"),
        _503=AWAY,
    ),
    "/api/history": get_operation(
        "Events by type and letters by failure in the last days", answer("Counts by span of time", _history),
        query("days", "How many days", {**WHOLE, "minimum": 1, "maximum": 14, "default": 3}),
        _400=mistake("A wrong number of days"), _503=AWAY,
    ),
    "/api/trail": get_operation(
        "Who changed what", answer("The latest first", record({"trail": many(LINK)})), _503=AWAY
    ),
    "/api/drill": _post_operation(
        "Report the state of a drill; forgotten after 15 s without a new report",
        {"200": answer("Drills that run", record({"drills": DRILLS}))}, _drill_report,
    ),
    "/api/token": _post_operation("Check the token", {"200": answer("It is", record({"well": TRUTH}))}),
    "/api/signin": get_operation("Whether people sign in by OpenID Connect, and who has in this browser", SIGNED_IN),
    "/signin": {"get": {"summary": "Send the browser to the identity provider", "responses": SENT}},
    "/signin/callback": {"get": {
        "summary": "Where the provider sends the browser back: begins a session, or says why not", "responses": SENT,
        "parameters": [query(name, "As in OpenID Connect", TEXT) for name in ("state", "code", "iss", "error")],
    }},
    "/api/signout": _post_operation("End the session of this browser", {"200": SIGNED_IN}),
}  # fmt: skip

DOCUMENT: dict[str, Any] = document(
    "Unlost console", "See everything; replay, archive and restore dead letters.", PATHS, COMPONENTS
)
