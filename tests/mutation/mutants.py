"""All mutants of a file, and a reproducible sample of them by a seed. Pure, except for reading the files."""

import ast
import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import create_mutations

ROOMS = {
    "pipeline": ("listener/pipeline/**/*.py",),
    "claims": ("listener/claims/**/*.py",),
    "store": ("listener/store/**/*.py",),
    "dead letters": ("dlq/record/file.py", "dlq/record/letter.py", "dlq/record/sidecar.py"),
    "journal": ("producer/journal/**/*.py",),
}


class Mutant(msgspec.Struct, frozen=True):
    """One mistake."""

    name: str
    """Made from the file and the change, so that it stays the same when other lines move."""
    room: str
    file: str
    line: int
    before: str
    after: str


def sample(root: Path, rooms: Sequence[str], seed: int, size: int) -> Iterator[tuple[Mutant, str]]:
    """A sample of ``size`` mutants of each room, each with the complete changed text of its file.

    Lots are drawn by the change of a mutant, so that nearly the same ones are drawn after other code has changed."""
    for room in rooms:
        sources = [Source(root, room, file) for file in files_of(root, room)]
        lots = sorted((lot, source, number) for source in sources for number, lot in enumerate(source.lots(seed)))
        made = (source.mutant(number) for _, source, number in lots)
        yield from itertools.islice((one for one in made if one is not None), size)


class Source:
    """A file, and the places where it can be changed."""

    def __init__(self, root: Path, room: str, file: str) -> None:
        self._room, self._file = room, file
        self._text = (root / file).read_text(encoding="utf-8")
        with contextlib.chdir(Path(__file__).parent):  # mutmut looks for its configuration here
            self._module, self.mutations, _, _ = create_mutations(file, self._text)
        wrapper = MetadataWrapper(self._module, unsafe_skip_copy=True)
        self._positions = wrapper.resolve(PositionProvider)

    def lots(self, seed: int) -> Iterator[str]:
        """One lot for each mutation."""
        code, seen = self._module.code_for_node, Counter[tuple[str, str]]()
        for one in self.mutations:
            change = code(one.original_node), code(one.mutated_node)
            seen[change] += 1
            yield hashlib.sha256(repr((seed, self._file, change, seen[change])).encode()).hexdigest()

    def mutant(self, number: int) -> tuple[Mutant, str] | None:
        """The mutant with this number and the complete text, or None if the text stays the same."""
        one = self.mutations[number]
        changed = self._module.deep_replace(one.original_node, one.mutated_node).code
        if changed == self._text:
            return None
        before, after = _difference(self._text, changed)
        line = self._positions[one.original_node].start.line
        name = hashlib.sha256(f"{self._file}\n{before}\n{after}".encode()).hexdigest()[:10]
        return Mutant(name, self._room, self._file, line, before, after), changed


def files_of(root: Path, room: str) -> Sequence[str]:
    """The room's files that contain code."""
    paths = sorted(path for pattern in ROOMS[room] for path in root.glob(pattern))
    return [str(path.relative_to(root)) for path in paths if path.name != "__init__.py"]


def _difference(old: str, new: str) -> tuple[str, str]:
    """The lines that differ, in each text."""
    a, b = old.splitlines(), new.splitlines()
    start = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    return "\n".join(a[start : len(a) - end]), "\n".join(b[start : len(b) - end])


def lines_of(text: str, mutant: Mutant) -> tuple[range, range]:
    """The changed lines, and those of the enclosing function without its head; an empty range outside of functions."""
    changed = range(mutant.line, mutant.line + mutant.before.count("\n") + 1)
    functions = [
        range(one.body[0].lineno, (one.end_lineno or one.lineno) + 1)
        for one in ast.walk(ast.parse(text))
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        and one.lineno <= mutant.line <= (one.end_lineno or 0)
    ]
    return changed, min(functions, key=len, default=range(0))
