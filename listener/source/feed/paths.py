"""Paths into JSON text, such as ``data.trades[0].id``, and a reader of the values at many paths. Pure.

The grammar is the same wherever a profile has a path. ``$`` alone, or before a dot or a bracket, is the whole message.

Only what the paths need is decoded; the rest is skipped. A payload is returned as the text that the feed sent. A
missing value, or one below something that is neither an object nor an array, is ``UNSET``: never an error.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, Raw

Step = str | int
Path = tuple[Step, ...]
EACH = -1
"""The step ``[*]``."""

_STEP = re.compile(r'\.?(?:([\w$@-]+)|"([^"]+)")|\[(\d{1,4})\]|\[(\*)\]')
_LIST = msgspec.json.Decoder(list[Raw])
_ANY = msgspec.json.Decoder(float_hook=str)
"""A fraction keeps its own digits, as text."""


_WHOLE = re.compile(r"\$(?=[.\[]|$)\.?")
_FORM = "a path is written data.trades[0].id"


class BadPath(ValueError):
    """A text that is not a path."""


def begins_at_the_whole(text: str) -> bool:
    """Whether a path begins at the whole message, not at an item of it."""
    return _WHOLE.match(text) is not None


def path_of(text: str) -> Path:
    """Parse a path. ``$`` is the whole message: a path without steps."""
    if not text:
        raise BadPath(f"an empty path; {_FORM}")
    steps: list[Step] = []
    begin = at = found.end() if (found := _WHOLE.match(text)) else 0
    if text[begin - 1 : begin] == "." and begin == len(text):
        raise BadPath(f"{text!r} is no path; {_FORM}")
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (found.group().startswith(".") and not steps):
            raise BadPath(f"{text!r} is no path; {_FORM}")
        name, quoted, index, each = found.groups()
        if name == "$":
            quotes = 'write "$" in quotes for a field of that name'
            raise BadPath(f"{text!r} holds the name $; {quotes}, or begin with $. for the whole message")
        steps.append(name or quoted or (EACH if each else int(index)))
        at = found.end()
        if at < len(text) and text[at] not in ".[":
            raise BadPath(f"{text!r} is no path; {_FORM}")
    return tuple(steps)


class Fields:
    """Reads the values at these paths. ``raw``: the numbers of those that are returned as the text that was sent."""

    def __init__(self, paths: Sequence[Path], raw: Iterable[int] = ()) -> None:
        self._count = len(paths)
        self._whole = [at for at, path in enumerate(paths) if not path]
        self._raw = frozenset(raw)
        tree = _Node()
        for at, path in enumerate(paths):
            if path:
                tree.add(path, at, raw=at in self._raw)
        self._array = tree.is_array
        direct: dict[int, str] = {}
        self._below: list[tuple[str, Fields, list[int]]] = []
        self._at_index = {step: _below(node) for step, node in tree.children.items() if isinstance(step, int)}
        self._decode = msgspec.json.Decoder(_struct(tree, "", direct, self._below), float_hook=str).decode
        self._direct = list(direct.items())
        self._all_at_once = self._getter(direct)

    def _getter(self, direct: dict[int, str]) -> Callable[[Any], tuple[Any, ...]] | None:
        """Take all values in one call, if none needs more than that."""
        simple = len(direct) == self._count and not self._below and self._count > 1
        return attrgetter(*[direct[at] for at in range(self._count)]) if simple else None

    def read(self, text: bytes | Raw) -> Sequence[Any]:
        """Return the values, in the order of the paths; ``msgspec.DecodeError`` if the text is not JSON."""
        if self._count == 0:
            return ()
        values: list[Any] = [UNSET] * self._count
        for at in self._whole:
            values[at] = text if at in self._raw else _ANY.decode(text)
        try:
            found = self._decode(text)
        except msgspec.ValidationError:
            if self._array:
                self._read_items(text, values)
            return values
        if self._all_at_once is not None:
            try:
                return self._all_at_once(found)
            except AttributeError:
                pass  # something in between is missing
        self._fill(found, values)
        return values

    def _fill(self, found: Any, values: list[Any]) -> None:
        for at, name in self._direct:
            values[at] = _attribute(found, name)
        for name, fields, targets in self._below:
            if (inner := _attribute(found, name)) is not UNSET:
                for at, value in zip(targets, fields.read(inner), strict=True):
                    values[at] = value

    def _read_items(self, text: bytes | Raw, values: list[Any]) -> None:
        try:
            items = _LIST.decode(text)
        except msgspec.ValidationError:
            return
        for index, (fields, targets) in self._at_index.items():
            if index < len(items):
                for at, value in zip(targets, fields.read(items[index]), strict=True):
                    values[at] = value


class Elements:
    """Takes the items at a path with ``[*]``, each as its own text."""

    def __init__(self, path: Path) -> None:
        self._parts: list[Fields | None] = []
        while EACH in path:
            cut = path.index(EACH)
            self._parts.append(Fields([path[:cut]], [0]) if cut else None)
            path = path[cut + 1 :]
        self._last = Fields([path], [0]) if path else None

    def of(self, text: bytes | Raw) -> Sequence[bytes | Raw] | None:
        """Return the items; None if no array stands at the path."""
        parts: list[bytes | Raw] = [text]
        for level, fields in enumerate(self._parts):
            found: list[bytes | Raw] = []
            for part in parts:
                inner = part if fields is None else fields.read(part)[0]
                try:
                    found += _LIST.decode(inner)
                except (msgspec.ValidationError, TypeError):
                    if level == 0:
                        return None
            parts = found
        if self._last is None:
            return parts
        return [inner for part in parts if (inner := self._last.read(part)[0]) is not UNSET]


class _Node:
    """A step in the tree of all paths."""

    def __init__(self) -> None:
        self.children: dict[Step, _Node] = {}
        self.values: list[int] = []
        self.raws: list[int] = []

    def add(self, path: Path, at: int, *, raw: bool) -> None:
        if not path:
            (self.raws if raw else self.values).append(at)
            return
        self.children.setdefault(path[0], _Node()).add(path[1:], at, raw=raw)

    @property
    def is_array(self) -> bool:
        return any(isinstance(step, int) for step in self.children)

    @property
    def ends(self) -> list[int]:
        """The numbers of all paths that lead here or further."""
        return [*self.values, *self.raws, *(at for child in self.children.values() for at in child.ends)]


def _struct(node: _Node, prefix: str, direct: dict[int, str], below: list[tuple[str, Fields, list[int]]]) -> Any:
    """Make the type that decodes only the fields below this node."""
    fields: list[tuple[str, Any, Any]] = []
    names: dict[str, str] = {}
    for number, (step, child) in enumerate(node.children.items()):
        if isinstance(step, int):
            continue
        name = f"f{number}"
        names[name] = step
        fields.append((name, _type_of(child, f"{prefix}{name}", direct, below), UNSET))
    return msgspec.defstruct("Found", fields, rename=names, gc=False)


def _type_of(child: _Node, name: str, direct: dict[int, str], below: list[tuple[str, Fields, list[int]]]) -> Any:
    if not child.children and len(child.ends) == 1:
        direct[child.ends[0]] = name
        return Raw if child.raws else Any
    if child.values or child.raws or child.is_array:
        fields, targets = _below(child)
        below.append((name, fields, targets))
        return Raw
    inner = _struct(child, f"{name}.", direct, below)
    return inner | list[Raw] | str | int | float | bool | None


def _below(node: _Node) -> tuple[Fields, list[int]]:
    """Make a reader for all paths at and below a node, from the node's own text."""
    targets = node.ends
    paths = dict(_paths_of(node, ()))
    raw = [number for number, at in enumerate(targets) if at in _raws_of(node)]
    return Fields([paths[at] for at in targets], raw), targets


def _paths_of(node: _Node, path: Path) -> Iterable[tuple[int, Path]]:
    for at in (*node.values, *node.raws):
        yield at, path
    for step, child in node.children.items():
        yield from _paths_of(child, (*path, step))


def _raws_of(node: _Node) -> set[int]:
    return {*node.raws, *(at for child in node.children.values() for at in _raws_of(child))}


def _attribute(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part, UNSET)
    return found
