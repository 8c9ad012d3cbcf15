"""The whole system as processes, for tests that observe it from outside."""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.clusters import put_cluster
from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.system import System


@contextlib.contextmanager
def running_system(listeners: int = 2, *, console: bool = False, token: str = "", **settings: str) -> Iterator[System]:
    """Producer, listeners, PostgreSQL and Valkey on free ports, all ready. ``settings`` are passed to every command.

    ``token``: the user's, as for ``unlost up``. Without it, everybody on this machine may use the system.
    """
    directory = Path(tempfile.mkdtemp(prefix="unlost-test-"))
    directory.chmod(0o711)
    layout = Layout(directory, free_ports(listeners, console=console), settings)
    if token:
        (directory / "authorization").write_text(f"authorization: Bearer {token}\n")
        layout = layout.with_tokens()
    system = System(layout, lambda step: None, threading.Event())
    try:
        put_cluster(system.postgres.cluster.parent)
        system.start()
        yield system
    finally:
        system.stop()
        shutil.rmtree(directory, ignore_errors=True)
