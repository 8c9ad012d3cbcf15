"""Notifications of Twitch EventSub over WebSocket.

Twitch wants an HTTP call for each subscription once it has sent a session's id, within ten seconds. It moves sessions
by a reconnect message with a new address, where the subscriptions exist already. Nothing may be sent to it. Its welcome
says for how long it may be silent.

``TWITCH_CLIENT_ID`` and ``TWITCH_TOKEN`` are the app's. ``TWITCH_SUBSCRIPTIONS`` is a JSON array, as
``[{"type":"stream.online","version":"1","condition":{"broadcaster_user_id":"1337"}}]``.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from unlost.listener.core.errors import Misconfigured
from unlost.listener.source.feed.calls import Call, CallRefused, call
from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Feed,
    FeedEvent,
    FeedStopped,
    Keepalive,
    NewConnection,
    Opening,
    Refused,
    Stop,
)

FORBIDDEN = (400, 401, 403)


class _Metadata(msgspec.Struct):
    message_id: str
    message_type: str
    subscription_type: str = ""


class _Message(msgspec.Struct):
    metadata: _Metadata
    payload: Raw = Raw(b"{}")


class _Session(msgspec.Struct):
    id: str = ""
    reconnect_url: str | None = None
    keepalive_timeout_seconds: float | None = None


class _WithSession(msgspec.Struct):
    session: _Session


class Twitch(Feed):
    """A ``Feed``. ``fresh`` is longer than Twitch's own keepalive of ten seconds."""

    fresh = 20.0
    stop_on = (4003,)

    def __init__(self, environment: Mapping[str, str] = os.environ, *, call: Call = call) -> None:
        missing = [name for name in _NEEDED if not environment.get(name)]
        if missing:
            raise Misconfigured(*(f"twitch: the environment variable {name} is not set" for name in missing))
        self._environment = environment
        self._call = call
        self._url = environment.get("TWITCH_URL", "wss://eventsub.wss.twitch.tv/ws")
        self._api = environment.get("TWITCH_API_URL", "https://api.twitch.tv/helix/eventsub/subscriptions")
        try:
            self._wanted = msgspec.json.decode(environment["TWITCH_SUBSCRIPTIONS"], type=list[dict[str, Any]])
        except msgspec.DecodeError as error:
            raise Misconfigured(f"twitch: TWITCH_SUBSCRIPTIONS is no JSON array of subscriptions: {error}") from None
        self._subscribed: set[str] = set()

    async def opening(self, after: str | None) -> Opening:
        """See ``Feed``."""
        del after
        return Opening(url=self._url)

    async def opened(self, connection: NewConnection) -> None:
        """See ``Feed``. A session that was moved keeps its id and its subscriptions."""
        welcome = _decode(await connection.receive())
        if welcome is None or welcome.metadata.message_type != "session_welcome":
            raise FeedStopped("Twitch did not begin with session_welcome")
        session = msgspec.json.decode(welcome.payload, type=_WithSession).session.id
        if session in self._subscribed:
            return
        for one in self._wanted:
            await self._subscribe(one, session)
        self._subscribed = {session}

    def read(self, message: bytes) -> Iterable[Action]:
        """See ``Feed``."""
        found = _decode(message)
        if found is None:
            return (Refused(message, "the message is none of Twitch's"),)
        match found.metadata.message_type:
            case "notification":
                return (FeedEvent(found.metadata.message_id, found.payload, found.metadata.subscription_type),)
            case "session_reconnect":
                url = msgspec.json.decode(found.payload, type=_WithSession).session.reconnect_url
                return (Again("Twitch moves the session", url),)
            case "session_welcome":
                within = msgspec.json.decode(found.payload, type=_WithSession).session.keepalive_timeout_seconds
                return () if within is None else (Keepalive(within),)
            case "revocation":
                return (Stop(f"Twitch revoked a subscription: {message[:300].decode(errors='replace')}"),)
            case _:
                return ()

    async def _subscribe(self, wanted: Mapping[str, Any], session: str) -> None:
        body = {**wanted, "transport": {"method": "websocket", "session_id": session}}
        headers = {
            "Authorization": f"Bearer {self._environment['TWITCH_TOKEN']}",
            "Client-Id": self._environment["TWITCH_CLIENT_ID"],
            "Content-Type": "application/json",
        }
        try:
            await self._call("POST", self._api, headers, msgspec.json.encode(body).decode())
        except CallRefused as error:
            if error.status in FORBIDDEN:
                raise FeedStopped(error.loss.why) from error
            raise


_NEEDED = ("TWITCH_CLIENT_ID", "TWITCH_TOKEN", "TWITCH_SUBSCRIPTIONS")
_decoder = msgspec.json.Decoder(_Message)


def _decode(message: bytes) -> _Message | None:
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError):
        return None
