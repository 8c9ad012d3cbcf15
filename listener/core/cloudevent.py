"""Events as CloudEvents 1.0, in structured and in binary mode. Pure.

An event that came as a CloudEvent leaves with the same id, source and attributes. The id of any other is its
``event_id``.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

SOURCE = "/unlost"
"""The source of an event that names none."""
TYPE = "event"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_NAME = re.compile(r"[a-z0-9]{1,20}")
_OURS = frozenset(("data", "data_base64"))
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}"


def structured(event_id: str, kind: str | None, payload: Any, other: Any, source: str = SOURCE) -> dict[str, Any]:
    """Return the CloudEvent as one JSON object."""
    attributes = _attributes(event_id, kind, other, source)
    return {**attributes, ("data_base64" if _is_base64(payload, other) else "data"): payload}


def binary(
    event_id: str, kind: str | None, payload: Any, other: Any, source: str = SOURCE
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an HTTP request."""
    attributes = _attributes(event_id, kind, other, source)
    content = attributes.pop("datacontenttype", "application/json")
    headers = {f"ce-{name}": quote(_text(value), safe=_SAFE) for name, value in attributes.items()}
    if _is_base64(payload, other):
        body = base64.b64decode(payload)
    else:
        is_text = isinstance(payload, str) and str(content).startswith("text/")
        body = payload.encode() if is_text else msgspec.json.encode(payload)
    return {**headers, "content-type": str(content)}, body


def _attributes(event_id: str, kind: str | None, other: Any, source: str) -> dict[str, Any]:
    """Return all attributes. A field that no attribute can have the name or value of is left out."""
    fields = other if isinstance(other, Mapping) else {}
    kept = {name: value for name, value in fields.items() if _NAME.fullmatch(name) and _is_simple(value)}
    for name in _OURS & kept.keys():
        del kept[name]
    came_as_one = all(isinstance(kept.get(name), str) and kept[name] for name in ("specversion", "id", "source"))
    own = {"id": kept["id"], "source": kept["source"]} if came_as_one else {"id": event_id, "source": source}
    return {"specversion": "1.0", **own, "type": kind or TYPE} | {
        name: value for name, value in kept.items() if name not in ("specversion", "id", "source", "type")
    }


def _is_simple(value: Any) -> bool:
    return isinstance(value, bool | str) or (isinstance(value, int) and -(2**31) <= value < 2**31)


def _is_base64(payload: Any, other: Any) -> bool:
    return isinstance(payload, str) and isinstance(other, Mapping) and other.get("data_base64") is True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower()
