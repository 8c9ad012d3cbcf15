"""All mutants of a file, and a sample of them that a seed makes again. Pure, but for reading the files."""

import contextlib
import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import create_mutations

ROOMS = {
    "pipeline": ("listener/pipeline/*.py",),
    "claims": ("listener/claims/*.py",),
    "store": ("listener/store/*.py",),
    "dead letters": ("dlq/file.py", "dlq/letter.py", "dlq/sidecar.py"),
    "journal": ("producer/journal/*.py",),
}


class Mutant(msgspec.Struct, frozen=True):
    """One mistake."""

    name: str
    """From the file and the change, so that it stays when other lines move."""
    room: str
    file: str
    line: int
    before: str
    after: str


def sample(root: Path, rooms: Sequence[str], seed: int, size: int) -> Iterator[tuple[Mutant, str]]:
    """So many mutants of all rooms together, each with the whole text that it makes of its file."""
    sources = {file: Source(root, room, file) for room, file in _files(root, rooms)}
    everything = [(file, number) for file, source in sources.items() for number in range(len(source.mutations))]
    random.Random(seed).shuffle(everything)
    made = (sources[file].mutant(number) for file, number in everything)
    return itertools.islice((one for one in made if one is not None), size)


class Source:
    """A file, and where it can be changed."""

    def __init__(self, root: Path, room: str, file: str) -> None:
        self._room, self._file = room, file
        self._text = (root / file).read_text(encoding="utf-8")
        with contextlib.chdir(Path(__file__).parent):  # where mutmut finds what it asks to be told at all
            self._module, self.mutations, _, _ = create_mutations(file, self._text)
        wrapper = MetadataWrapper(self._module, unsafe_skip_copy=True)
        self._positions = wrapper.resolve(PositionProvider)

    def mutant(self, number: int) -> tuple[Mutant, str] | None:
        """The one of this number, and the whole text; nothing where the text stays the same."""
        one = self.mutations[number]
        changed = self._module.deep_replace(one.original_node, one.mutated_node).code  # type: ignore[arg-type, union-attr]
        if changed == self._text:
            return None
        before, after = _difference(self._text, changed)
        line = self._positions[one.original_node].start.line
        name = hashlib.sha256(f"{self._file}\n{before}\n{after}".encode()).hexdigest()[:10]
        return Mutant(name, self._room, self._file, line, before, after), changed


def _files(root: Path, rooms: Sequence[str]) -> Iterator[tuple[str, str]]:
    for room in rooms:
        for path in sorted(path for pattern in ROOMS[room] for path in root.glob(pattern)):
            if path.name != "__init__.py":
                yield room, str(path.relative_to(root))


def _difference(old: str, new: str) -> tuple[str, str]:
    """The lines that differ, of both."""
    a, b = old.splitlines(), new.splitlines()
    start = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    return "\n".join(a[start : len(a) - end]), "\n".join(b[start : len(b) - end])
