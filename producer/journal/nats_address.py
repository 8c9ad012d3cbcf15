"""The address of a journal in JetStream: ``nats://host:4222,host2:4222/STREAM?option=value``. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from unlost.ops.kit.telemetry.address import split_address

SCHEME = "nats://"
PORT = 4222
WINDOW = 7200.0
LONGEST_WINDOW = 86_400.0
OPTIONS = ("creds", "monitor", "replicas", "window")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class JetStreamAddress:
    """Servers, the stream, and options."""

    servers: Sequence[str]
    """The address of each server, with credentials."""
    shown: str
    """The address without credentials and options."""
    stream: str
    replicas: int | None
    """How many copies of each entry a new stream keeps; None: three in a cluster, else one."""
    window: float
    """Seconds in which a new stream knows ids again."""
    creds: str | None
    """File with the credentials of a user."""
    monitors: Sequence[str]
    """URLs of the servers' monitoring, which says whether they sync."""


def read_address(text: str) -> JetStreamAddress:
    """Read an address. Raises ``ValueError`` with all that is wrong."""
    parts = split_address(text)
    user, at, places = parts.netloc.rpartition("@")
    hosts = [one if ":" in one else f"{one}:{PORT}" for one in places.split(",") if one]
    stream = parts.path.strip("/")
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    wrong = [] if hosts else ["it names no host"]
    if not _STREAM.match(stream):
        wrong.append("it names no stream of letters, digits, - and _, as in nats://host:4222/journal")
    wrong += [f"the option {name} is not known; known are {', '.join(OPTIONS)}" for name in {*options} - {*OPTIONS}]
    wrong += ["an option occurs twice"] if len(options) < len(given) else []
    replicas, window = options.get("replicas"), options.get("window", str(WINDOW))
    if replicas not in (None, "1", "3", "5"):
        wrong.append("replicas is 1, 3 or 5")
    seconds = _seconds(window)
    if seconds is None:
        wrong.append(f"window is a number of seconds from 60 to {LONGEST_WINDOW:.0f}")
    monitors = [one.rstrip("/") for one in options.get("monitor", "").split(",") if one]
    if any(urlsplit(one).scheme not in ("http", "https") for one in monitors):
        wrong.append("monitor names URLs such as http://host:8222, with commas between them")
    if wrong or seconds is None:
        raise ValueError("; ".join(sorted(wrong)))
    return JetStreamAddress(
        [f"{SCHEME}{user}{at}{host}" for host in hosts], f"{SCHEME}{','.join(hosts)}/{stream}", stream,
        int(replicas) if replicas else None, seconds, options.get("creds"), monitors,
    )  # fmt: skip


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 60 <= value <= LONGEST_WINDOW else None
