"""Selects letters by fields of the payload, as ``jsonb @>`` does: objects and lists contain what is asked for. Pure."""

import json
from typing import Any

LONGEST = 2_000
EXAMPLE = 'write a field, such as customer.id=17, or JSON, such as {"customer": {"id": 17}}'


def alternatives(text: str) -> tuple[str, ...]:
    """The JSON of each payload that ``text`` asks for. Raises ``ValueError``.

    ``field=17`` asks for the number and for the text, since nobody remembers which of them the publisher sends.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} characters")
    if text.startswith(("{", "[")):
        return (_json(_parsed(text)),)
    path, equals, value = text.partition("=")
    names = [one.strip() for one in path.split(".")]
    if not equals or not all(names):
        raise ValueError(EXAMPLE)
    return tuple(dict.fromkeys(_json(_nested(names, one)) for one in _readings(value.strip())))


def contains(have: Any, wanted: Any) -> bool:
    """Whether decoded JSON contains another, as PostgreSQL's ``@>`` decides."""
    if isinstance(wanted, dict):
        return isinstance(have, dict) and all(
            name in have and contains(have[name], one) for name, one in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(have, list) and all(any(contains(own, one) for own in have) for one in wanted)
    return isinstance(have, bool) == isinstance(wanted, bool) and bool(have == wanted)


def _readings(value: str) -> list[Any]:
    try:
        return [_parsed(value), value]
    except ValueError:
        return [value]


def _nested(names: list[str], value: Any) -> Any:
    for name in reversed(names):
        value = {name: value}
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}; {EXAMPLE}") from None


def _json(value: Any) -> str:
    """As JSON that PostgreSQL accepts."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        raise ValueError("it has a number or a character that jsonb refuses") from None
    if "\\u0000" in text:
        raise ValueError("it has a number or a character that jsonb refuses")
    return text
