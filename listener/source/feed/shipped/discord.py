"""Events of a gateway that speaks Discord's protocol, version 10.

The gateway sets the interval of heartbeats, which carry the number of the last event, and answers each. A connection on
which nothing arrives for longer is dead. A connection that is lost is resumed by the session's id and that number, so
nothing is missed. The session lives in this process: after a restart, the gateway begins a new one, and the time
between is a declared gap. Sessions differ between listeners, so an event is identified by its type and by the id in
its data.

``DISCORD_TOKEN`` is the bot's token, ``DISCORD_INTENTS`` the number that selects events. ``DISCORD_EVENTS`` are the
types that are stored, with commas between them; all others are control.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw

from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Beat,
    Feed,
    FeedEvent,
    Keepalive,
    Missed,
    NewConnection,
    Numbered,
    Opening,
    Refused,
    Send,
)

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 9, 10, 11
NOT_AGAIN = (4004, 4010, 4011, 4012, 4013, 4014)
"""Close codes after which reconnecting is pointless."""
MESSAGES = "MESSAGE_CREATE,MESSAGE_UPDATE,MESSAGE_DELETE"


class _Message(msgspec.Struct):
    op: int
    d: Raw = Raw(b"null")
    s: int | None = None
    t: str | None = None


class _Hello(msgspec.Struct):
    heartbeat_interval: int


class _Named(msgspec.Struct):
    id: str
    edited_timestamp: str | None = None


class _Ready(msgspec.Struct):
    session_id: str
    resume_gateway_url: str | None = None


class Discord(Feed):
    """A ``Feed``."""

    stop_on = NOT_AGAIN
    fresh = 120.0
    numbers_each_process = True

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        if not environment.get("DISCORD_TOKEN"):
            raise Misconfigured("discord: the environment variable DISCORD_TOKEN is not set")
        self._environment = environment
        self._url = environment.get("DISCORD_URL", "wss://gateway.discord.gg/?v=10&encoding=json")
        self._types = frozenset(environment.get("DISCORD_EVENTS", MESSAGES).split(","))
        self._session: str | None = None
        self._resume_url: str | None = None
        self._last: int | None = None

    async def opening(self, after: str | None) -> Opening:
        """See ``Feed``."""
        del after
        return Opening(url=self._resume_url or self._url)

    async def opened(self, connection: NewConnection) -> None:
        """See ``Feed``. Resume if there is a session, or identify."""
        if (hello := _decode(await connection.receive())) is None or hello.op != HELLO:
            raise Transient("the gateway did not begin with hello")
        token = self._environment["DISCORD_TOKEN"]
        if self._session is not None:
            await connection.send(_encoded(RESUME, {"token": token, "session_id": self._session, "seq": self._last}))
            return
        properties = {"os": "linux", "browser": "unlost", "device": "unlost"}
        intents = int(self._environment.get("DISCORD_INTENTS", "513"))
        await connection.send(_encoded(IDENTIFY, {"token": token, "intents": intents, "properties": properties}))

    def read(self, message: bytes) -> Iterable[Action]:
        """See ``Feed``."""
        found = _decode(message)
        if found is None:
            return (Refused(message, "the message is none of the gateway's"),)
        match found.op:
            case 0:
                return self._dispatched(found, message)
            case 1:
                return (Send(_encoded(HEARTBEAT, self._last)),)
            case 7:
                return (Again("the gateway asked for a new connection"),)
            case 9:
                return self._invalid(found)
            case 10:
                every = msgspec.json.decode(found.d, type=_Hello).heartbeat_interval / 1000
                return (Beat(every), Keepalive(every))
            case _:
                return ()

    def beat(self) -> Send:
        """See ``Feed``."""
        return Send(_encoded(HEARTBEAT, self._last))

    def _dispatched(self, found: _Message, message: bytes) -> Iterable[Action]:
        if found.s is None or found.t is None:
            return (Refused(message, "the event has no number or no type"),)
        self._last = found.s
        if found.t == "READY":
            ready = msgspec.json.decode(found.d, type=_Ready)
            self._session, self._resume_url = ready.session_id, ready.resume_gateway_url
            return ()
        number = (self._session or "", found.s)
        if found.t not in self._types:
            return (Numbered(number),)
        try:
            named = msgspec.json.decode(found.d, type=_Named)
        except msgspec.ValidationError:
            return (Refused(message, "the event's data has no id"), Numbered(number))
        version = f":{named.edited_timestamp}" if named.edited_timestamp else ""
        return (FeedEvent(f"{found.t}:{named.id}{version}", found.d, found.t, sequence=number),)

    def _invalid(self, found: _Message) -> Iterable[Action]:
        """The session is lost, unless it may be resumed."""
        if bytes(found.d) == b"true":
            return (Again("the session is invalid, and may be resumed"),)
        self._session = self._resume_url = self._last = None
        return (Missed("the session cannot be resumed"), Again("the session is invalid"))


_decoder = msgspec.json.Decoder(_Message)


def _decode(message: bytes) -> _Message | None:
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _encoded(op: int, data: object) -> str:
    return msgspec.json.encode({"op": op, "d": data}).decode()
