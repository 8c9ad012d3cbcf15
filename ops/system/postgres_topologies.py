"""The common part of two PostgreSQL servers that belong together: a pair of ours, or one under Patroni."""

from collections.abc import Iterable
from typing import Protocol

from unlost.ops.system.ports import LOOPBACK
from unlost.ops.system.postgres import DATABASE, PostgresServer


class PostgresTopology(Protocol):
    """A primary and its synchronous standby behind one ``DATABASE_URL``."""

    @property
    def primary(self) -> PostgresServer:
        """The server that takes rows."""
        ...

    @property
    def standby(self) -> PostgresServer:
        """The other one."""
        ...

    @property
    def url(self) -> str:
        """The value of ``DATABASE_URL``: both servers, of which the one that takes rows is used."""
        ...

    def nearest_url_of(self, role: str, password: str) -> str:
        """The same for another role."""
        ...

    def start(self) -> None:
        """Start both, and return when commits wait for the standby."""
        ...

    def promote(self) -> None:
        """Return when the standby takes rows. The primary must be gone."""
        ...

    def follow(self) -> None:
        """Start the standby, and return when commits wait for it."""
        ...

    def stop(self) -> None:
        """Stop both."""
        ...


def url_of(servers: Iterable[PostgresServer], who: str) -> str:
    """The URL by which this login, a name with its password, reaches the one that takes rows."""
    hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in servers)
    return f"postgresql://{who}@{hosts}/{DATABASE}?target_session_attrs=read-write"
