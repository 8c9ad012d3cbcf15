"""Free and taken ports on the loopback interface."""

import atexit
import random
import socket
from collections import deque

LOOPBACK = "127.0.0.1"
OURS = range(20_000, 32_768)
"""Linux takes the ports of outgoing connections from 32,768 on. One of those may be taken before a server has it."""
_anywhere = random.SystemRandom()
"""Its choice differs between processes, whatever seeds they set."""
_given: set[int] = set()


HELD = 128
"""How many reservations a process keeps. By the time that an older one ends, its server listens."""
_held: deque[socket.socket] = deque()


def free_port() -> int:
    """Find a port on which nobody listens now, and that no process of ours has been given a moment ago.

    A socket for datagrams with the same number reserves it: servers do not use these, and it ends with its process.
    """
    while not _taken(port := _anywhere.choice(OURS)):
        pass
    return port


def free_row(count: int) -> int:
    """The first of so many ports in a row, each as ``free_port`` finds one."""
    while True:
        first = free_port()
        if first + count in OURS and all(map(_taken, range(first + 1, first + count))):
            return first


def _taken(port: int) -> bool:
    """Reserve a port, if it is free and was given to nobody."""
    if port in _given or (reservation := _reserved(port)) is None:
        return False
    if not is_free(port):
        reservation.close()
        return False
    _given.add(port)
    _held.append(reservation)
    if len(_held) > HELD:
        _held.popleft().close()
    return True


@atexit.register
def _end_reservations() -> None:
    while _held:
        _held.popleft().close()


def _reserved(port: int) -> socket.socket | None:
    reservation = socket.socket(type=socket.SOCK_DGRAM)
    try:
        reservation.bind((LOOPBACK, port))
    except OSError:
        reservation.close()
        return None
    return reservation


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
        return True
