"""JSON Patch (RFC 6902) and JSON Pointer (RFC 6901). Pure: a value is never changed, each operation makes a new one.

Bounded: a patch has at most ``MOST_OPERATIONS`` and copies at most ``MOST_COPIED`` values, since each copy of the whole
doubles it. A pointer has at most ``DEEPEST`` parts.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from unlost.listener.core.errors import UnlostError

MOST_OPERATIONS = 1_000
MOST_COPIED = 1_000_000
DEEPEST = 100
MISSING = object()


class BadPatch(UnlostError):
    """The patch is not valid, or does not fit the value. The text says which operation, and why."""


class Operation(msgspec.Struct, frozen=True):
    """One operation. ``value`` and ``source`` are there if the operation has them."""

    op: str
    path: tuple[str, ...]
    value: Any = MISSING
    source: tuple[str, ...] = ()


def read_patch(text: bytes) -> tuple[Operation, ...]:
    """Read a patch; raise ``BadPatch`` if it is none."""
    try:
        steps = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadPatch(f"a JSON Patch is a JSON array of operations: {error}") from None
    if len(steps) > MOST_OPERATIONS:
        raise BadPatch(f"the patch has {len(steps):,} operations, and {MOST_OPERATIONS:,} are allowed")
    return tuple(_operation(step, number) for number, step in enumerate(steps, 1))


def _operation(step: dict[str, Any], number: int) -> Operation:
    op = step.get("op")
    if op not in OPERATIONS:
        raise BadPatch(f"operation {number}: op is one of {', '.join(OPERATIONS)}, not {op!r}")
    for name in ("path", *(("value",) if op in VALUED else ()), *(("from",) if op in FROM else ())):
        if name not in step:
            raise BadPatch(f"operation {number} ({op}) lacks {name}")
    source = _pointer(step["from"], number) if op in FROM else ()
    path = _pointer(step["path"], number)
    if op == "move" and path[: len(source)] == source and path != source:
        raise BadPatch(f"operation {number} (move): a value cannot be moved into itself")
    return Operation(op, path, step.get("value", MISSING) if op in VALUED else MISSING, source)


def _pointer(text: Any, number: int) -> tuple[str, ...]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise BadPatch(f"operation {number}: {text!r} is no JSON Pointer; write /payload/price, or an empty text")
    parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])
    if len(parts) > DEEPEST:
        raise BadPatch(f"operation {number}: the pointer has {len(parts):,} parts, and {DEEPEST} are allowed")
    return parts


def patched(value: Any, patch: Sequence[Operation]) -> Any:
    """The value after all operations; raise ``BadPatch`` if one of them does not fit."""
    value = copy.deepcopy(value)
    room = MOST_COPIED
    for number, one in enumerate(patch, 1):
        try:
            if one.op == "copy":
                room = _room_after(_at(value, one.source), room)
            value = OPERATIONS[one.op](value, one)
        except BadPatch as error:
            raise BadPatch(f"operation {number} ({one.op} /{'/'.join(one.path)}): {error}") from None
    return value


def _room_after(value: Any, room: int) -> int:
    """How many more values may be copied after this one."""
    left = [value]
    while left:
        room -= 1
        if room < 0:
            raise BadPatch(f"more than {MOST_COPIED:,} values would be copied")
        one = left.pop()
        left += one if isinstance(one, list) else one.values() if isinstance(one, dict) else ()
    return room


def _add(root: Any, one: Operation) -> Any:
    return _put(root, one.path, copy.deepcopy(one.value))


def _remove(root: Any, one: Operation) -> Any:
    return _take(root, one.path)[0]


def _replace(root: Any, one: Operation) -> Any:
    if not one.path:
        return copy.deepcopy(one.value)
    parent, last = _at(root, one.path[:-1]), one.path[-1]
    if isinstance(parent, list):
        parent[_index(parent, last)] = copy.deepcopy(one.value)
    else:
        _at(parent, (last,))
        parent[last] = copy.deepcopy(one.value)
    return root


def _move(root: Any, one: Operation) -> Any:
    root, moved = _take(root, one.source)
    return _put(root, one.path, moved)


def _copy(root: Any, one: Operation) -> Any:
    return _put(root, one.path, copy.deepcopy(_at(root, one.source)))


def _test(root: Any, one: Operation) -> Any:
    found = _at(root, one.path)
    if not equal(found, one.value):
        raise BadPatch("the value is another one")
    return root


Apply = Callable[[Any, Operation], Any]
OPERATIONS: dict[str, Apply] = {
    "add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test,
}  # fmt: skip
VALUED = ("add", "replace", "test")
FROM = ("move", "copy")


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(value, list):
            value = value[_index(value, part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise BadPatch(f"there is no {part!r}")
    return value


def _put(root: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _at(root, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(parent, last, beyond=True), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise BadPatch(f"the value above {last!r} is neither an object nor an array")
    return root


def _take(root: Any, path: Sequence[str]) -> tuple[Any, Any]:
    if not path:
        return None, root
    parent, last = _at(root, path[:-1]), path[-1]
    found = _at(parent, (last,))
    if isinstance(parent, list):
        del parent[_index(parent, last)]
    else:
        del parent[last]
    return root, found


def _index(array: Sequence[Any], part: str, *, beyond: bool = False) -> int:
    """The place that a part of a pointer names. ``beyond``: also the one after the last."""
    if not (part.isascii() and part.isdigit()) or (part.startswith("0") and part != "0") or len(part) > 9:
        raise BadPatch(f"{part!r} is no place in an array")
    if int(part) >= len(array) + beyond:
        raise BadPatch(f"the array has no place {part}")
    return int(part)


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return bool(one == other)
