"""Files and directories that only their owner may read: they hold other people's data."""

import contextlib
import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def private_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Create the directory and its missing parents. The mode of an existing directory is not changed."""
    for one in reversed((path, *path.parents)):
        if not one.exists():
            one.mkdir(mode=mode, exist_ok=True)


def private_descriptor(path: Path, flags: int) -> int:
    """Open the file, creating it if it is missing. An existing file that others may read becomes private too."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    with contextlib.suppress(PermissionError):  # another user owns it and lets us write to it
        os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor
