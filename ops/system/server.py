"""The common part of PostgreSQL and Valkey: a program from a wheel, run as one child process on one loopback port."""

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from unlost.ops.system.child import Child, ChildFailed


class Server(ABC):
    """One server and its directory. Port 0 takes a free port and keeps it across restarts."""

    name: ClassVar[str]
    stop_seconds: ClassVar[float]
    """How long an orderly stop may take."""

    def __init__(self, directory: Path, port: int, log: Path | None) -> None:
        self._directory = directory.absolute()
        self._log = log or self._directory / f"{self.name}.log"
        self._port = port
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def child(self) -> Child:
        """The process, once started."""
        if self._child is None:
            raise ChildFailed(self.name, "was never started")
        return self._child

    @abstractmethod
    def start(self) -> None:
        """Start it, and return when it accepts connections."""

    def stop(self) -> None:
        """Shut down in order; its data is then on disk."""
        if self._child is not None:
            self._child.stop(self.stop_seconds)

    def kill(self) -> None:
        """Crash it: SIGKILL to all of its processes."""
        self.child.kill()

    def freeze(self) -> None:
        """Suspend it: it is silent, but its connections stay open."""
        self.child.freeze()

    def thaw(self) -> None:
        """Resume it."""
        self.child.thaw()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port with the same data."""
        self.stop()
        self.start()


def wheel(module: str, name: str) -> Path:
    """The directory of an installed wheel that brings a server's program."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ChildFailed(name, "is not installed; install the extra: pip install 'unlost[local]'")
    return Path(spec.origin).parent
