"""Addresses of PostgreSQL, one server or several: ``postgresql:

user@a:5432,b:5432/db?target_session_attrs=read-write``.

Pure. Everything that ``asyncpg`` can read itself is left to it.
"""

from urllib.parse import parse_qsl

from unlost.ops.kit.telemetry.address import split_address


def servers_of(url: str) -> list[str]:
    """Return the address of each server named before the path; ``ValueError`` if one of several is empty."""
    parts = split_address(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    if not all(hosts.split(",")):
        raise ValueError("a host is empty: write host:port,host:port")
    return [parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts.split(",")]


def public_address(url: str) -> str:
    """Return the servers and the database without credentials, for messages."""
    try:
        parts = split_address(url)
    except ValueError:
        return "an address that cannot be read"
    hosts = parts.netloc or dict(parse_qsl(parts.query)).get("host", "")
    return f"{hosts}{parts.path}".rpartition("@")[2]
