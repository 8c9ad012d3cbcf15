"""Free and taken ports on the loopback interface."""

import random
import socket

LOOPBACK = "127.0.0.1"
OURS = range(20_000, 32_768)
"""Linux takes the ports of outgoing connections from 32,768 on. One of those may be taken before a server has it."""
_anywhere = random.SystemRandom()
"""Its choice differs between processes, whatever seeds they set."""
_given: set[int] = set()


def free_port() -> int:
    """Find a port on which nobody listens now, and that this process has not been given before."""
    while True:
        port = _anywhere.choice(OURS)
        if port not in _given and is_free(port):
            _given.add(port)
            return port


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
