"""Sends requests at an even rate, each at its own time.

An event loop's timers count whole milliseconds; at 1,000 a second they would send two at once and then none.
``time.sleep`` counts microseconds. Latency counts from the scheduled time, so that a stalled sender does not hide it.
"""

import socket
import time
from collections.abc import Sequence
from itertools import cycle

from unlost.ops.bench.client import CONNECTIONS, answer_in, checked

ENOUGH = 64 * 1024
MAX_UNANSWERED = 200
"""So many responses fit into a connection's buffers. Measurements stay below it: reading them would delay sending."""
PATIENCE = 60.0


def wait_until(due: float) -> None:
    """Return when ``perf_counter`` reaches this time."""
    if (early := due - time.perf_counter()) > 0:
        time.sleep(early)


class PacedPublisher:
    """A punctual publisher for a thread of its own. It uses its connections in turn.

    Responses are read later, many at once: a wake-up for each would cost as much as sending."""

    def __init__(self, host: str, port: int) -> None:
        self._wires = [_Connection(host, port) for _ in range(CONNECTIONS)]

    def send(self, requests: Sequence[bytes], rate: float) -> list[float]:
        """Send the requests; return the scheduled time of each, by the wall clock."""
        began, offset = time.perf_counter(), time.time() - time.perf_counter()
        due = [began + number / rate for number in range(len(requests))]
        for request, at, wire in zip(requests, due, cycle(self._wires), strict=False):
            wait_until(at)
            wire.send_one(request)
        for wire in self._wires:
            wire.receive()
        return [offset + at for at in due]

    def close(self) -> None:
        """Close the connections."""
        for wire in self._wires:
            wire.close()


class _Connection:
    """One connection. The server queues a request that is sent before the last response has come."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unanswered = 0
        self._read = b""

    def send_one(self, request: bytes) -> None:
        if self._unanswered == MAX_UNANSWERED:
            self.receive()
        self._socket.sendall(request)
        self._unanswered += 1

    def receive(self) -> None:
        """Wait for all responses. Raises ``RuntimeError`` unless each status is 2xx."""
        while self._unanswered:
            found = answer_in(self._read)
            if found is not None:
                answer, self._read = found
                checked(answer)
                self._unanswered -= 1
            elif data := self._socket.recv(ENOUGH):
                self._read += data
            else:
                raise ConnectionError("the producer closed the connection")

    def close(self) -> None:
        self._socket.close()
