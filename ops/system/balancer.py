"""HAProxy before several producers: one address to publish to, and one for the stream. It comes with a Debian package.

It forwards bytes. A producer that is not ready, by its own ``/health/ready``, gets no new connections. Its open ones
are closed, so that their clients go to another producer.
"""

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.ports import LOOPBACK

STARTUP = 10.0
CONFIG = """global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  retries 3
  option redispatch
  option httpchk GET /health/ready
  default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two ports of a producer, or of the balancer itself."""

    publish: int
    stream: int


class Balancer:
    """One HAProxy."""

    def __init__(self, directory: Path, front: Pair, producers: Sequence[Pair]) -> None:
        self._directory = directory.absolute()
        self._front = front
        self._producers = producers
        self.child = Child("haproxy", [], log=self._directory / "haproxy.log")

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        program = haproxy()
        if program is None:
            raise ChildFailed("haproxy", "is not installed; it comes with Debian's package haproxy")
        config = self._directory / "haproxy.cfg"
        config.write_text(self.config())
        self.child = Child("haproxy", [program, "-db", "-f", str(config)], log=self._directory / "haproxy.log")
        self.child.start()
        self.child.wait_until(self._answers, STARTUP)

    def stop(self) -> None:
        """Stop it: its clients lose their connections."""
        if self.child.pid is not None:
            self.child.kill()

    def config(self) -> str:
        """The file that it reads."""
        publish = [(one.publish, one.publish) for one in self._producers]
        stream = [(one.stream, one.publish) for one in self._producers]
        return CONFIG + "".join(
            _listen(name, port, servers)
            for name, port, servers in (
                ("publish", self._front.publish, publish),
                ("stream", self._front.stream, stream),
            )
        )

    def _answers(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self._front.stream), timeout=1).close()
        except OSError:
            return False
        return True


def haproxy() -> str | None:
    """Where HAProxy is installed, if it is."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def _listen(name: str, port: int, servers: Sequence[tuple[int, int]]) -> str:
    """Spread connections of one port over those of the producers, each of which is checked at its own port."""
    lines = [
        f"  server producer-{number} {LOOPBACK}:{to} check port {checked}\n"
        for number, (to, checked) in enumerate(servers, 1)
    ]
    return f"listen {name}\n  bind {LOOPBACK}:{port}\n  balance leastconn\n{''.join(lines)}"
