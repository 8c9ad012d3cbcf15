"""Sends requests at an even rate, each at its own time.

An event loop's timers count whole milliseconds; at 1,000 a second they would send two at once and then none.
``time.sleep`` counts microseconds. Latency counts from the scheduled time, so that a stalled sender does not hide it.
"""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from unlost.ops.bench.client import CONNECTIONS, answer_in, checked, request

ENOUGH = 64 * 1024
MAX_UNANSWERED = 200
"""So many responses fit into a connection's buffers. Measurements stay below it: reading them would delay sending."""
PATIENCE = 60.0


def wait_until(due: float) -> None:
    """Return when ``perf_counter`` reaches this time."""
    if (early := due - time.perf_counter()) > 0:
        time.sleep(early)


def after_response(read: bytes) -> bytes | None:
    """Return what follows the first HTTP response; None if it is incomplete. ``RuntimeError`` unless it is 2xx."""
    if (found := answer_in(read)) is None:
        return None
    checked(found[0])
    return found[1]


@dataclass(frozen=True, slots=True)
class Door:
    """Where events are accepted: an address, and what is sent there and answered. By default the producer's HTTP."""

    host: str
    port: int
    request: Callable[[int, bytes], bytes] = lambda _, line: request("/publish", line)
    """Makes the request that publishes an event. The number is that of the connection."""
    hello: Callable[[int], bytes] = lambda _: b""
    """Makes what the connection with this number sends first."""
    after_answer: Callable[[bytes], bytes | None] = after_response
    """Returns the bytes after the first answer, or None. Raises ``RuntimeError`` if an event was refused."""


class PacedPublisher:
    """A punctual publisher for a thread of its own. It uses its connections in turn.

    Responses are read later, many at once: a wake-up for each would cost as much as sending."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._wires = [_Connection(door, number) for number in range(CONNECTIONS)]

    def send(self, lines: Sequence[bytes], rate: float) -> list[float]:
        """Publish the events; return the scheduled time of each, by the wall clock."""
        requests = [self._request(number, line) for number, line in enumerate(lines)]
        began, offset = time.perf_counter(), time.time() - time.perf_counter()
        due = [began + number / rate for number in range(len(requests))]
        for number, (one, at) in enumerate(zip(requests, due, strict=True)):
            self._send_at(at, number, one)
        self._receive()
        return [offset + at for at in due]

    def send_until(self, ended: Callable[[], bool], line_of: Callable[[int], bytes], rate: float, began: float) -> int:
        """Publish event after event until it has ended; return how many. Event ``n`` is due ``n / rate`` later."""
        for number in count():
            if ended():
                break
            self._send_at(began + number / rate, number, self._request(number, line_of(number)))
        self._receive()
        return number

    def _request(self, number: int, line: bytes) -> bytes:
        return self._door.request(number % CONNECTIONS, line)

    def _send_at(self, at: float, number: int, request: bytes) -> None:
        wait_until(at)
        self._wires[number % CONNECTIONS].send_one(request)

    def _receive(self) -> None:
        for wire in self._wires:
            wire.receive()

    def close(self) -> None:
        """Close the connections."""
        for wire in self._wires:
            wire.close()


class _Connection:
    """One connection. The server queues a request that is sent before the last response has come."""

    def __init__(self, door: Door, number: int) -> None:
        self._after_answer = door.after_answer
        self._socket = socket.create_connection((door.host, door.port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(door.hello(number))
        self._unanswered = 0
        self._read = b""

    def send_one(self, request: bytes) -> None:
        if self._unanswered == MAX_UNANSWERED:
            self.receive()
        self._socket.sendall(request)
        self._unanswered += 1

    def receive(self) -> None:
        """Wait for all responses. Raises ``RuntimeError`` if one of them refuses an event."""
        while self._unanswered:
            if (after := self._after_answer(self._read)) is not None:
                self._read = after
                self._unanswered -= 1
            elif data := self._socket.recv(ENOUGH):
                self._read += data
            else:
                raise ConnectionError("the server closed the connection")

    def close(self) -> None:
        self._socket.close()
