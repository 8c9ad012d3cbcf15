"""An AsyncAPI 3.0 document of what a handler receives: a message for each function, with its payload's schema.

Pure. The document names no server and no setting, so it may be published.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unlost.listener.pipeline.handlers import Handler
from unlost.listener.routing.declared import OTHERWISE
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.payloads import Schema, schema_of

VERSION = "3.0.0"
CHANNEL = "events"
TEXT: Schema = {"type": "string"}
ID: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def asyncapi_of(handler: Handler | None, *, name: str, version: str) -> dict[str, Any]:
    """Return the document of this handler; None: all events are stored, and nothing runs."""
    document = _Document()
    if isinstance(handler, AppHandler):
        for route in handler.all_routes:
            document.add(route.name, route.patterns, route.function, route.payload)
    elif handler is not None:
        document.add(handler.name, ("*",), None, Any)
    else:
        document.add("store", ("*",), None, Any)
    return {
        "asyncapi": VERSION,
        "info": {"title": name or "Unlost", "version": version or "0"},
        "defaultContentType": "application/json",
        "channels": {CHANNEL: {"address": None, "description": "The listener's sources", "messages": document.refs}},
        "operations": document.operations,
        "components": {"messages": document.messages, "schemas": document.schemas},
    }


class _Document:
    def __init__(self) -> None:
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.schemas: dict[str, Schema] = {}

    @property
    def refs(self) -> dict[str, Any]:
        return {name: {"$ref": f"#/components/messages/{name}"} for name in self.messages}

    def add(self, function: str, patterns: Sequence[str], code: Callable[..., Any] | None, payload: Any) -> None:
        """Add a function that takes these types, with this payload."""
        name = self._free(_ODD.sub("_", function))
        said = inspect.cleandoc(code.__doc__).partition("\n")[0] if code is not None and code.__doc__ else ""
        about = {"summary": said} if said else {}
        self.messages[name] = {
            "name": name,
            "title": ", ".join(patterns),
            **about,
            "payload": _envelope(patterns, self._schema(name, payload)),
        }
        self.operations[name] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{CHANNEL}"},
            **about,
            "messages": [{"$ref": f"#/channels/{CHANNEL}/messages/{name}"}],
        }

    def _free(self, name: str) -> str:
        """Return this name, with a number if it is taken."""
        names = (name if number == 1 else f"{name}.{number}" for number in range(1, len(self.messages) + 2))
        return next(one for one in names if one not in self.messages)

    def _schema(self, name: str, payload: Any) -> Schema:
        """Return a payload's schema. Two classes of one name get the function's name before theirs."""
        schema, parts = schema_of(payload, "#/components/schemas/{name}")
        if any(self.schemas.get(part, known) != known for part, known in parts.items()):
            schema, parts = schema_of(payload, f"#/components/schemas/{name}.{{name}}")
            parts = {f"{name}.{part}": known for part, known in parts.items()}
        self.schemas |= parts
        return schema


def _envelope(patterns: Sequence[str], payload: Schema) -> Schema:
    """Return the schema of an event: its payload, and what stands beside it."""
    others = tuple(patterns) in ((OTHERWISE,), ("*",))
    required = ["event_id", "payload"] if others else ["event_id", "type", "payload"]
    kinds = [{"type": ["string", "null"]}] if others else [_kind(pattern) for pattern in patterns]
    properties = {"event_id": ID, "type": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}, "payload": payload}
    return {"type": "object", "required": required, "properties": properties}


def _kind(pattern: str) -> Mapping[str, Any]:
    if "*" not in pattern:
        return {"const": pattern}
    words = ".*".join(re.escape(word) for word in re.split(r"\*+", pattern))
    return {**TEXT, "pattern": f"^{words}$"}
