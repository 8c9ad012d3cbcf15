"""The words between a server and its gate: a request, a refusal, a pass. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from unlost.ops.kit.access.identity import Identity, Right

SCHEME = "bearer "
PROTOCOL = "unlost"
"""The WebSocket subprotocol of the stream. A browser, which can set no header, offers its token as another one."""
PROTOCOL_WITH_TOKEN = f"{PROTOCOL}.bearer."


@dataclass(frozen=True, slots=True)
class Person:
    """A person and his groups, as a proxy or an identity provider names them.

    From a proxy, it counts only with the proxy's own token.
    """

    user: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """The properties of a request that has not been served yet."""

    what: str
    """Method and path, for the log."""
    address: str
    right: Right | None
    """The right that the request needs; None: no right is needed, and the answer has no details."""
    hosts: Sequence[str] = ()
    origin: str | None = None
    authorization: Sequence[str] = ()
    protocols: str = ""
    """Subprotocols that a WebSocket client offers."""
    subject: str = ""
    """Of the client's certificate."""
    person: "Person | None" = None
    """Whom a proxy names as the sender."""
    session: str = ""
    """Of a person who has signed in."""
    any_host: bool = False
    """A probe may call us by any name."""
    own_page: bool = False
    """The origin is another port of ours."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not pass, and how it is answered."""

    status: int
    reason: str
    why: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pass:
    """A request that may pass."""

    identity: Identity | None
    """None: the request is anonymous, and needs no right."""
    credentials: str = ""
    subject: str = ""
    person: Person | None = None
    session: str = ""


def too_many(why: str, seconds: float, reason: str = "rate") -> Refusal:
    """Refuse until so many seconds have passed."""
    wait = str(int(seconds) + 1)
    return Refusal(429, reason, f"{why}; try again in {wait} s", (("retry-after", wait),))


def credentials_of(asked: AccessRequest) -> str:
    """The token of a request, or an empty text. It never comes from the query, which is logged on the way."""
    for value in asked.authorization:
        return bearer_of(value)
    for protocol in asked.protocols.split(","):
        if protocol.strip().startswith(PROTOCOL_WITH_TOKEN):
            return protocol.strip().removeprefix(PROTOCOL_WITH_TOKEN)
    return ""


def bearer_of(value: str) -> str:
    """The token in an ``Authorization`` header. Anything else is no token of ours, so it is wrong as it stands."""
    return value[len(SCHEME) :].strip() if value[: len(SCHEME)].lower() == SCHEME else value.strip()
