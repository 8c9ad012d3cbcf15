"""Which processes and files a picture of the system is made from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WatchTargets:
    """The processes to query and the files to read."""

    listeners: tuple[str, ...]
    producer: str | None
    letters: tuple[Path, ...]
    group: str
