"""The description of the HTTP endpoint, as OpenAPI 3.1."""

from typing import Any

from unlost.ops.kit.telemetry.openapi import TEXT, answer, document, query

_OUTCOME: dict[str, Any] = {
    "type": "object",
    "required": ["status", "event_id"],
    "properties": {
        "status": {"enum": ["accepted", "redelivered", "duplicate", "conflict", "invalid", "too_large", "unavailable"]},
        "event_id": {"type": ["string", "null"]},
        "cursor": {"type": "string", "description": "The event's position in the stream"},
        "error": {"type": "string"},
    },
}
_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event_id": {"type": "string", "minLength": 1, "maxLength": 256},
        "type": {"type": ["string", "null"], "maxLength": 256},
        "payload": {},
    },
    "description": "Other fields are kept; `cursor` is reserved. Without event_id, the id is made from the content.",
}


def _outcomes() -> dict[str, Any]:
    return {
        "202": answer("On disk", _OUTCOME),
        "400": answer("Not a valid event", _OUTCOME),
        "403": answer("A page of another site", {"type": "object"}),
        "409": answer("Published before, with the same or other content", _OUTCOME),
        "413": answer("Too large", _OUTCOME),
        "503": answer("The journal cannot be written now; try again", _OUTCOME),
    }


_REDELIVER = query("redeliver", "Send a known id once more", {"type": "boolean"})
_NDJSON = {"application/x-ndjson": {"schema": TEXT}}

DOCUMENT: dict[str, Any] = document(
    "Unlost producer",
    "Publish events durably; stream them.",
    {
        "/publish": {
            "post": {
                "summary": "Publish one event",
                "parameters": [_REDELIVER],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _EVENT}}},
                "responses": _outcomes(),
            }
        },
        "/publish/batch": {
            "post": {
                "summary": "Publish many events, one per line; one answer per line",
                "parameters": [_REDELIVER],
                "requestBody": {"required": True, "content": _NDJSON},
                "responses": {
                    "200": {"description": "One outcome per line, with the line number", "content": _NDJSON},
                    "403": answer("A page of another site"),
                    "413": {"description": "Too large; the lines answered before it are stored", "content": _NDJSON},
                    "503": {"description": "Unavailable; the lines answered before it are stored", "content": _NDJSON},
                },
            }
        },
        "/publish/cloudevents": {
            "post": {
                "summary": "Publish a CloudEvent (structured or binary), or a batch of them; event_id is source#id",
                "parameters": [_REDELIVER],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/cloudevents+json": {"schema": {"type": "object"}},
                        "application/cloudevents-batch+json": {"schema": {"type": "array"}},
                    },
                },
                "responses": {
                    "200": {"description": "Of a batch: one outcome per line, in order", "content": _NDJSON},
                    **_outcomes(),
                },
            }
        },
        "/api/v1/ddup_service/events": {
            "post": {
                "summary": "Publish any JSON object; without event_id, its id is made from its content",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                "responses": _outcomes(),
            }
        },
        "/api/v1/ddup_service/test": {"get": {"summary": "Liveness check", "responses": {"200": answer("Well")}}},
        "/api/journal": {
            "get": {
                "summary": "List accepted events, oldest first, for audits",
                "parameters": [
                    query("after", "List entries after this cursor", {"type": "string"}),
                    query("event_id", "Only the first entry of this event", {"type": "string"}),
                    query("limit", "The most lines to list", {"type": "integer", "minimum": 1, "maximum": 10000}),
                ],
                "responses": {
                    "200": {"description": "Lines of event_id, cursor, digest, at, state", "content": _NDJSON},
                    "400": answer("A wrong limit"),
                    "404": answer("An unknown cursor"),
                    "503": answer("The journal cannot be read now"),
                },
            }
        },
        "/api/journal/groups": {
            "get": {
                "summary": "What each group has settled, and what retention dropped before a group had read it",
                "responses": {"200": answer("Groups and sums"), "503": answer("The journal cannot be read now")},
            }
        },
        "/api/follow": {
            "get": {
                "summary": "Ask the listeners for the outcomes of events",
                "parameters": [query("ids", "Ids, separated by commas", {"type": "string"}, required=True)],
                "responses": {"200": answer("Stories by id"), "400": answer("No ids, or too many")},
            }
        },
    },
)
