"""Resolves names to dead-letter files: single files, directories and patterns become files, each once.

A file that does not exist yet counts as empty if a listener's lock is beside it (the listener creates the file with its
first letter). Any other name without a file is refused, and so is anything unreadable. Otherwise letters that nobody
counted would look like lost events.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from unlost.dlq.record.file import FileError, file_errors, lock_of_writer

ENDING = ".jsonl"
PATTERN = frozenset("*?[")


def letter_files(named: Iterable[Path]) -> list[Path]:
    """The existing files, with links resolved. Raises ``FileError`` for a name that leads nowhere."""
    found = dict.fromkeys(file.resolve() for path in named for file in _files_of(path))
    return list(found)


def is_several(named: Path) -> bool:
    """Whether this name may mean more than one file."""
    return bool(PATTERN.intersection(str(named))) or named.is_dir()


def _files_of(path: Path) -> Iterator[Path]:
    with file_errors(path, "read"):
        found = list(_named_by(path, ENDING))
        locks = path if path.is_dir() else lock_of_writer(path)
        if not found and not any(_named_by(locks, lock_of_writer(Path(ENDING)).name)):
            raise FileError(_leads_nowhere(path))
        yield from found


def _leads_nowhere(path: Path) -> str:
    if is_several(path):
        return (
            f"{path} names no dead-letter file (a directory and the directories in it are searched for *{ENDING}); "
            "correct FILES or LETTERS"
        )
    return (
        f"there is no dead-letter file {path}, and no listener has used it (a listener creates it with its first "
        "letter); correct FILE, LETTERS or DEAD_LETTER_FILE"
    )


def _named_by(path: Path, ending: str) -> Iterator[Path]:
    if path.is_dir():
        yield from _inside(path, ending)
    elif path.exists():
        yield path
    elif PATTERN.intersection(str(path)):
        yield from _matching(path)


def _inside(directory: Path, ending: str) -> Iterator[Path]:
    """The files in a directory and in its subdirectories: one directory per listener is usual."""
    for one in sorted(directory.iterdir()):
        if one.is_dir():
            yield from sorted(file for file in one.iterdir() if file.name.endswith(ending) and file.is_file())
        elif one.name.endswith(ending) and one.is_file():
            yield one


def _matching(pattern: Path) -> list[Path]:
    """Match like a shell, but raise if a directory cannot be read, because it may contain letters."""
    found = [Path(pattern.anchor)]
    for part in pattern.parts[bool(pattern.anchor) :]:
        found = [
            one / name
            for one in found
            for name in ([part] if not PATTERN.intersection(part) else _names(one, part))
            if (one / name).exists()
        ]
    return [one for one in found if one.is_file()]


def _names(directory: Path, pattern: str) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(
        one.name
        for one in directory.iterdir()
        if fnmatch(one.name, pattern) and one.name.startswith(".") is pattern.startswith(".")
    )
