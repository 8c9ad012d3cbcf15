"""The description of the HTTP endpoint, as OpenAPI 3.1."""

from typing import Any

_OUTCOME: dict[str, Any] = {
    "type": "object",
    "required": ["status", "event_id"],
    "properties": {
        "status": {"enum": ["accepted", "redelivered", "duplicate", "conflict", "invalid", "too_large", "unavailable"]},
        "event_id": {"type": ["string", "null"]},
        "cursor": {"type": "string", "description": "Where the event stands in the stream"},
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
    "description": "Other fields are kept; `cursor` is reserved. Without event_id, the id is made of the content.",
}


def _json(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema or {"type": "object"}}}}


def _outcomes() -> dict[str, Any]:
    return {
        "202": _json("On disk", _OUTCOME),
        "400": _json("No valid event", _OUTCOME),
        "403": _json("A page of another site", {"type": "object"}),
        "409": _json("Published before, with the same or other content", _OUTCOME),
        "413": _json("Too large", _OUTCOME),
        "503": _json("The journal cannot be written now; try again", _OUTCOME),
    }


def _query(name: str, about: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": about, "schema": schema, "required": required}


_REDELIVER = _query("redeliver", "Send a known id once more", {"type": "boolean"})
_NDJSON = {"application/x-ndjson": {"schema": {"type": "string"}}}
_PROBE = {"200": _json("Well"), "503": _json("Not well, and why")}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Unlost producer", "version": "0.1.0", "description": "Publish events durably; stream them."},
    "paths": {
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
                "summary": "Publish many events, one a line; an answer a line",
                "parameters": [_REDELIVER],
                "requestBody": {"required": True, "content": _NDJSON},
                "responses": {
                    "200": {"description": "An outcome a line, with its line number", "content": _NDJSON},
                    "403": _json("A page of another site"),
                    "413": {"description": "Too large; the lines answered before it are placed", "content": _NDJSON},
                    "503": {"description": "Unavailable; the lines answered before it are placed", "content": _NDJSON},
                },
            }
        },
        "/api/v1/ddup_service/events": {
            "post": {
                "summary": "Publish any JSON object, its id made of its content",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                "responses": _outcomes(),
            }
        },
        "/api/v1/ddup_service/events/test": {"get": {"summary": "A sign of life", "responses": {"200": _json("Well")}}},
        "/api/journal": {
            "get": {
                "summary": "List what was accepted, oldest first, for audits",
                "parameters": [
                    _query("after", "List what comes after this cursor", {"type": "string"}),
                    _query("event_id", "The first place of this event alone", {"type": "string"}),
                    _query("limit", "Lines, at most", {"type": "integer", "minimum": 1, "maximum": 10000}),
                ],
                "responses": {
                    "200": {"description": "Lines of event_id, cursor, digest, at", "content": _NDJSON},
                    "400": _json("A wrong limit"),
                    "404": _json("An unknown cursor"),
                    "503": _json("The journal cannot be read now"),
                },
            }
        },
        "/api/follow": {
            "get": {
                "summary": "Ask the listeners what became of events",
                "parameters": [_query("ids", "Ids with commas between them", {"type": "string"}, required=True)],
                "responses": {"200": _json("Stories by id"), "400": _json("No ids, or too many")},
            }
        },
        "/health": {"get": {"summary": "The whole picture", "responses": _PROBE}},
        "/health/live": {"get": {"summary": "Whether a restart would be of no use", "responses": _PROBE}},
        "/health/ready": {"get": {"summary": "Whether events are welcome", "responses": _PROBE}},
        "/metrics": {
            "get": {
                "summary": "For Prometheus",
                "responses": {"200": {"description": "Metrics", "content": {"text/plain": {}}}},
            }
        },
    },
}
