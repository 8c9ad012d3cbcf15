"""Things done at an even rate, each in its own time.

An event loop's timers count whole milliseconds, which at 1,000 a second sends two at once and then none; ``time.sleep``
counts microseconds. What is late counts from when it was due: who stood still, sent late.
"""

import socket
import time
from collections.abc import Sequence
from itertools import cycle

from unlost.ops.bench.client import CONNECTIONS, answer_in, checked

ENOUGH = 64 * 1024
MOST_UNHEARD = 200
"""So many answers fit into what a connection holds. No measurement comes to it: who reads them does not send."""
PATIENCE = 60.0


def wait_until(due: float) -> None:
    """Return when ``perf_counter`` says so."""
    if (early := due - time.perf_counter()) > 0:
        time.sleep(early)


class Paced:
    """A publisher that keeps time, in a thread of its own. Each request goes over the next connection in turn.

    Answers are read later, many at once: to be woken by each would cost as much as to send."""

    def __init__(self, host: str, port: int) -> None:
        self._wires = [_Wire(host, port) for _ in range(CONNECTIONS)]

    def send(self, requests: Sequence[bytes], rate: float) -> list[float]:
        """Send these; when each was due, by the clock of the day."""
        began, offset = time.perf_counter(), time.time() - time.perf_counter()
        due = [began + number / rate for number in range(len(requests))]
        for request, at, wire in zip(requests, due, cycle(self._wires), strict=False):
            wait_until(at)
            wire.ask(request)
        for wire in self._wires:
            wire.hear()
        return [offset + at for at in due]

    def close(self) -> None:
        """Close the connections."""
        for wire in self._wires:
            wire.close()


class _Wire:
    """One connection. Who asks before the last answer has come waits for its turn in the server."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unheard = 0
        self._read = b""

    def ask(self, request: bytes) -> None:
        if self._unheard == MOST_UNHEARD:
            self.hear()
        self._socket.sendall(request)
        self._unheard += 1

    def hear(self) -> None:
        """Wait for all answers, which are 2xx, or ``RuntimeError``."""
        while self._unheard:
            found = answer_in(self._read)
            if found is not None:
                answer, self._read = found
                checked(answer)
                self._unheard -= 1
            elif data := self._socket.recv(ENOUGH):
                self._read += data
            else:
                raise ConnectionError("the producer closed the connection")

    def close(self) -> None:
        self._socket.close()
