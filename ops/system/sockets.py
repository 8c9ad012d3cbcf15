"""Unix sockets of servers on this machine: they avoid TCP and the packet filter between two local processes.

A socket is in its server's own directory, and only the server's user (and root) may use it, with the password. The
kernel limits the length of its path. If the path would be too long, there is no socket, and processes use TCP on
loopback, which is always available.
"""

import os
from pathlib import Path

LONGEST = 107
"""Bytes of the path in ``sockaddr_un``, without the final zero byte."""
MODE = "0700"


def socket_at(path: Path) -> Path | None:
    """The path, unless it is too long for a socket."""
    return path if len(os.fsencode(path)) <= LONGEST else None


def address_of(port: int, socket: Path | None, *, wanted: bool) -> str:
    """Describe for people where a server listens."""
    address = f"127.0.0.1:{port}"
    if socket is not None:
        return f"{address}  {socket}"
    return f"{address}  (no socket: the data directory's path is too long)" if wanted else address
