"""Parts shared by our OpenAPI descriptions: responses, parameters, probes, metrics, and the route that serves them.

A description is plain data in OpenAPI 3.1. Tests compare it with the running servers.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Schema = dict[str, Any]
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
OR_NULL: Schema = {"type": "null"}


def record(required: Mapping[str, Schema] | None = None, **more: Schema) -> Schema:
    """An object with the fields ``required``, and the optional fields ``more``."""
    properties = dict(required or {})
    return {"type": "object", "required": list(properties), "properties": {**properties, **more}}


def many(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def by_name(values: Schema) -> Schema:
    """An object with arbitrary names, whose values have this schema."""
    return {"type": "object", "additionalProperties": values}


def either(*schemas: Schema) -> Schema:
    """A value that has one of these schemas."""
    return {"anyOf": list(schemas)}


MISTAKE = record({"error": TEXT})
HEALTH = record(
    {"live": TRUTH, "ready": TRUTH},
    instance=TEXT, reasons=many(TEXT), remarks=many(TEXT), checks=by_name(TRUTH),
)  # fmt: skip
PROBE = record({"status": {"enum": ["live", "dead", "ready", "unready"]}}, reasons=many(TEXT), remarks=many(TEXT))
"""Without a token that may read, both come without details."""


def answer(description: str, schema: Schema | None = None, media_type: str = "application/json") -> dict[str, Any]:
    """A response, by default in JSON."""
    return {"description": description, "content": {media_type: {"schema": schema or {"type": "object"}}}}


def mistake(description: str) -> dict[str, Any]:
    """A response that only explains an error."""
    return answer(description, MISTAKE)


def query(name: str, about: str, schema: Schema, *, required: bool = False) -> dict[str, Any]:
    """A query parameter."""
    return {"name": name, "in": "query", "description": about, "schema": schema, "required": required}


def in_path(name: str, about: str, schema: Schema | None = None) -> dict[str, Any]:
    """A path parameter."""
    return {
        "name": name,
        "in": "path",
        "description": about,
        "schema": schema or {**TEXT, "minLength": 1},
        "required": True,
    }


def get_operation(
    summary: str, ok: dict[str, Any], *parameters: dict[str, Any], **mistakes: dict[str, Any]
) -> dict[str, Any]:
    """A path with a GET operation; error responses are given as ``_400=…``."""
    operation: dict[str, Any] = {"summary": summary}
    if parameters:
        operation["parameters"] = list(parameters)
    operation["responses"] = {"200": ok, **{status.strip("_"): one for status, one in mistakes.items()}}
    return {"get": operation}


def _probe(summary: str, schema: Schema) -> dict[str, Any]:
    return get_operation(summary, answer("Yes", schema), _503=answer("No, and why", schema))


COMMON: dict[str, Any] = {
    "/health": _probe("Readiness with all checks and facts", HEALTH),
    "/health/live": _probe("Liveness: 503 means that a restart would help", PROBE),
    "/health/ready": _probe("Readiness: whether it can take new work", PROBE),
    "/metrics": get_operation("For Prometheus", answer("Metrics", TEXT, "text/plain")),
    "/openapi.json": get_operation("This description", answer("OpenAPI 3.1")),
}


_REFUSED = {
    "401": mistake("No token, or a wrong one"),
    "403": mistake("The token lacks the right, or a page of another origin asks"),
    "421": mistake("The server does not know this name as its own"),
    "429": mistake("Too many wrong tokens came from this address"),
}
_BEARER = {"bearer": {"type": "http", "scheme": "bearer", "description": "Where the server has TOKENS_FILE"}}


def _with_refusals(path: str, operations: Mapping[str, Any]) -> dict[str, Any]:
    """Add the answers of the gate. Probes need no token."""
    if path.startswith("/health"):
        return dict(operations)
    return {
        method: {**one, "responses": {**_REFUSED, **one["responses"]}, "security": [{}, {"bearer": []}]}
        for method, one in operations.items()
    }


def document(
    title: str, about: str, paths: Mapping[str, Any], schemas: Mapping[str, Schema] | None = None
) -> dict[str, Any]:
    """The whole description."""
    info = {"title": title, "version": version("unlost"), "description": about}
    all_paths = {path: _with_refusals(path, operations) for path, operations in {**paths, **COMMON}.items()}
    components = {"securitySchemes": _BEARER} | ({"schemas": dict(schemas)} if schemas else {})
    return {"openapi": "3.1.0", "info": info, "paths": all_paths, "components": components}


def openapi_route(document: Mapping[str, Any]) -> Route:
    """The route that serves the description."""

    async def openapi(request: Request) -> Response:  # noqa: ARG001  Starlette's signature
        return JSONResponse(document)

    return Route("/openapi.json", openapi)


async def _mistaken(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


MISTAKEN = {HTTPException: _mistaken}
"""Exception handlers that turn Starlette's own error responses into JSON, like all others."""
