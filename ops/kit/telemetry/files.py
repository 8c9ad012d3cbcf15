"""Files and directories that only their owner may enter: what they hold is other people's data."""

import contextlib
import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def private_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Make it, with all above it that is missing; what is there already stays as it is."""
    for one in reversed((path, *path.parents)):
        if not one.exists():
            one.mkdir(mode=mode, exist_ok=True)


def private_descriptor(path: Path, flags: int) -> int:
    """Open it, making it where it is missing; also one that was made for all to read becomes private."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    with contextlib.suppress(PermissionError):  # somebody else's, who lets us write to it
        os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor
