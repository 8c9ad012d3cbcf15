"""``REDIS_URL``, read: one server, some nodes of a Redis Cluster, or some Sentinels. Pure.

    redis://user:password@host:6379/0              one server, or any node of a Cluster
    redis://user:password@a:6379,b:6379,c:6379     several nodes of a Cluster: the first that answers names the others
    redis+sentinel://user:password@a,b,c/name/0    the primary that Sentinels call ``name``

``rediss`` in place of ``redis`` means TLS, to servers and to Sentinels. Login, database and query are those of the
servers. Sentinels have their own login, in the query: ``?sentinel_username=…&sentinel_password=…``.
"""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from unlost.ops.kit.telemetry.address import split_address

SCHEMES = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")
SENTINEL_PORT = 26379
OF_SENTINELS = ("sentinel_username", "sentinel_password")


class RedisAddress(msgspec.Struct, frozen=True):
    """The parsed ``REDIS_URL``."""

    urls: tuple[str, ...]
    """The URL of each server, or of each Sentinel."""
    pattern: str
    """The URL of a server that is found by asking those, with ``{}`` for its host and port."""
    service: str = ""
    """The name that Sentinels know, if these are Sentinels."""

    def of(self, host: str, port: int) -> str:
        """Return the URL of a server: the same login, database and options."""
        return self.pattern.replace("{}", f"[{host}]:{port}" if ":" in host else f"{host}:{port}", 1)


def read_address(url: str) -> RedisAddress:
    """Read ``REDIS_URL``. ``ValueError`` says what is wrong."""
    parts = split_address(url)
    if parts.scheme == "unix":
        return RedisAddress((url,), url)
    scheme, _, by = parts.scheme.partition("+")
    login, at, named = parts.netloc.rpartition("@")
    hosts = named.split(",")
    if not all(hosts):
        raise ValueError("a host is empty: write host:port,host:port")
    if by == "sentinel":
        return _by_sentinels(scheme, login + at, hosts, parts.path, parts.query)
    urls = tuple(parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts)
    return RedisAddress(urls, _pattern(scheme, login + at, parts.path, parts.query))


def host_of(url: str) -> str:
    """Return a server's host."""
    return urlsplit(url).hostname or "localhost"


def _by_sentinels(scheme: str, login: str, hosts: list[str], path: str, query: str) -> RedisAddress:
    service, _, database = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("Sentinels need the name of their primary: redis+sentinel://host:26379,host:26379/name")
    options = parse_qsl(query, keep_blank_values=True)
    own = dict(options)
    name, password = (quote(own.get(one, ""), safe="") for one in OF_SENTINELS)
    to_them = f"{name}:{password}@" if name or password else ""
    rest = urlencode([(key, value) for key, value in options if key not in OF_SENTINELS])
    urls = tuple(f"{scheme}://{to_them}{_with_port(host)}" + (f"?{rest}" if rest else "") for host in hosts)
    return RedisAddress(urls, _pattern(scheme, login, f"/{database}" if database else "", rest), service)


def _with_port(host: str) -> str:
    return host if urlsplit(f"//{host}").port else f"{host}:{SENTINEL_PORT}"


def _pattern(scheme: str, login: str, path: str, query: str) -> str:
    # The login comes before the host in the pattern, so no brace of it may be taken for the host.
    safe = login.replace("{", "%7B").replace("}", "%7D")
    return f"{scheme}://{safe}{{}}{path}" + (f"?{query}" if query else "")
