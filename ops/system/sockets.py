"""Unix sockets of servers on this machine: no TCP and no packet filter between two processes that are neighbours.

A socket lies in its server's own directory, and only the server's user (and root) may use it, with the password. The
kernel allows its path few bytes; where it would be too long there is none, and TCP on loopback, which is always there,
has to do.
"""

import os
from pathlib import Path

LONGEST = 107
"""Bytes in ``sockaddr_un``, but for the zero at its end."""
MODE = "0700"


def socket_at(path: Path) -> Path | None:
    """This path, if the kernel can name it."""
    return path if len(os.fsencode(path)) <= LONGEST else None


def told(port: int, socket: Path | None, *, wanted: bool) -> str:
    """Where a server listens, for people."""
    address = f"127.0.0.1:{port}"
    if socket is not None:
        return f"{address}  {socket}"
    return f"{address}  (no socket: the data directory's path is too long)" if wanted else address
