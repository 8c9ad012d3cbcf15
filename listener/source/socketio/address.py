"""The address of a Socket.IO server as SOURCE gives it: ``socketio://host:port/namespace?option=value``. Pure."""

from dataclasses import dataclass

from unlost.listener.core.errors import Misconfigured
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.feed.paths import BadPath
from unlost.listener.source.feed.profile import SHA256
from unlost.listener.source.feed.templates import identifier_of

BELOW = {"socketio": ("ws", 80), "socketios": ("wss", 443)}
"""The scheme of the connection, and its usual port."""
OPTIONS = ("auth", "ca", "events", "id", "path")
NOT_IN_NAMESPACES = frozenset(",?")


@dataclass(frozen=True, slots=True)
class SocketIOAddress:
    """One namespace of one server."""

    name: str
    """The name of the source."""
    url: str
    namespace: str
    event_id: str
    """The path or template of an event's id in its first argument, or ``sha256``."""
    events: frozenset[str]
    """The names of events that are stored; empty: all."""
    auth: str | None
    """A file with the JSON object that is sent to the namespace."""
    ca: str | None


def address_of(text: str) -> SocketIOAddress:
    """Read an address; ``Misconfigured`` if it has another form."""
    scheme, port = BELOW[text.partition("://")[0]]
    address = read_address(text, what="", port=port, options=OPTIONS)
    options = address.options
    event_id, path = options.get("id", "event_id"), options.get("path", "/socket.io/").strip("/")
    wrong = []
    if len(address.hosts) > 1:
        wrong.append("it names more than one host")
    if address.user:
        wrong.append("Socket.IO has no user in an address; auth=FILE names a file with what the server asks for")
    if NOT_IN_NAMESPACES & set(address.path) or not address.path.isprintable():
        wrong.append("a namespace has no commas, question marks and control characters")
    try:
        if event_id != SHA256:
            identifier_of(event_id)
    except BadPath as error:
        wrong.append(f"id: {error}")
    if wrong:
        raise Misconfigured(f"SOURCE={address.name}: {'; '.join(wrong)}")
    return SocketIOAddress(
        name=address.name,
        url=f"{scheme}://{address.hosts[0]}/{path}/?EIO=4&transport=websocket",
        namespace=f"/{address.path}",
        event_id=event_id,
        events=frozenset(one for one in options.get("events", "").split(",") if one),
        auth=options.get("auth"),
        ca=options.get("ca"),
    )
