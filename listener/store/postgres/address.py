"""Addresses of PostgreSQL, one server or several: ``postgresql://user@a:5432,b:5432/db?target_session_attrs=read-write``.

Pure. What ``asyncpg`` can read by itself is left to it.
"""

from urllib.parse import parse_qsl, urlsplit


def servers_of(url: str) -> list[str]:
    """The address of each server that is named before the path; ``ValueError`` where one of several is empty."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    if not all(hosts.split(",")):
        raise ValueError("a host is empty: write host:port,host:port")
    return [parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts.split(",")]


def place_of(url: str) -> str:
    """Server or servers and the database, without credentials, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    hosts = parts.netloc or dict(parse_qsl(parts.query)).get("host", "")
    return f"{hosts}{parts.path}".rpartition("@")[2]
