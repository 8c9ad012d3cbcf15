"""Credentials never leave the process: one rule that hides them in any text. Applied at every edge where text leaves.

Of a URL, scheme, host and path stay. Hidden are the user information, each value of the query, and the fragment. Where
an ``@`` may end a password or be part of a path, what stands before it is hidden. Outside of URLs, hidden is the value
of ``name=value`` where the name is one of a secret. It rather hides too much than too little.
"""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_url = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{2,3})([^\s\"'<>]+)")
_plain_host = re.compile(r"[\w.-]*(?=[/?#]|$)")
_query = re.compile(r"(?P<start>[?&;][^=&;]*=|\?)[^&;]*")
_named = re.compile(
    r"(?P<head>\b[\w.-]*(?:password|passwd|pwd|token|secret|signature|credential|api[_-]?key|access[_-]?key|\bsig)=)"
    r"[^\s&\"'<>]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """``text`` without credentials."""
    if "://" in text or ":/" in text:
        text = _url.sub(_masked_url, text)
    if "=" in text:
        text = _named.sub(rf"\g<head>{MASK}", text)
    return text


def _masked_url(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    shown = ""
    if "@" in rest and not _plain_host.match(rest):
        shown, rest = f"{MASK}@", rest.rpartition("@")[2]
    rest, number_sign, _ = rest.partition("#")
    place, question_mark, query = rest.partition("?")
    if question_mark:
        query = _query.sub(rf"\g<start>{MASK}", f"?{query}")
    return f"{scheme}{shown}{place}{query}" + (f"#{MASK}" if number_sign else "")


def masked_within(value: Any) -> Any:
    """The same for each text in decoded JSON, however deep."""
    match value:
        case str():
            return masked(value)
        case Mapping():
            return {masked(key) if isinstance(key, str) else key: masked_within(one) for key, one in value.items()}
        case list() | tuple():
            return [masked_within(one) for one in value]
        case _:
            return value
