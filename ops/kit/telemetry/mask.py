"""Masks credentials in any text. Applied wherever text leaves the process, so that credentials never do.

In a URL, scheme, host and path stay readable; user information, query values and the fragment are masked. If an ``@``
could end a password or be part of a path, everything before it is masked. Outside URLs, the value in ``name=value`` is
masked if the name suggests a secret. In doubt it masks too much rather than too little.
"""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_url = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{2,3})([^\s\"'<>]+)")
# A host without user information and port. An @ after it is part of the path; after a colon, it may end a password.
_plain_host = re.compile(r"[\w.-]*(?=[/?#]|$)")
_query = re.compile(r"(?P<start>[?&;][^=&;]*=|\?)[^&;]*")
_named = re.compile(
    r"(?P<head>\b[\w.-]*(?:password|passwd|pwd|token|secret|signature|credential|api[_-]?key|access[_-]?key|\bsig)=)"
    r"[^\s&\"'<>]+",
    re.IGNORECASE,
)
_token = re.compile(r"\bunlost_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
"""A token of ours (``ops/kit/access/table.py``), which is a secret wherever it stands."""


def masked(text: str) -> str:
    """``text`` without credentials."""
    if "://" in text or ":/" in text:
        text = _url.sub(_masked_url, text)
    if "unlost_" in text:
        text = _token.sub(MASK, text)
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
    """Mask each text in decoded JSON, at any depth."""
    match value:
        case str():
            return masked(value)
        case Mapping():
            return {masked(key) if isinstance(key, str) else key: masked_within(one) for key, one in value.items()}
        case list() | tuple():
            return [masked_within(one) for one in value]
        case _:
            return value
