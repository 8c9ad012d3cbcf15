"""Several subscriptions of one GraphQL server on one connection, by the protocol graphql-transport-ws.

The shipped profile `graphql-transport-ws` reads one subscription. This class reads several, and subscribes anew to one
that the server completes, while the others go on. `SOURCE=prices:Prices` reads it, `GRAPHQL_URL` is the address.
"""

import os
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from unlost.feeds import Action, Feed, FeedEvent, FeedStopped, Missed, NewConnection, Opening, Refused, Send, Stop

SUBSCRIPTIONS = {"bid": "subscription { bid { id price } }", "ask": "subscription { ask { id price } }"}
"""By the name of the field that each selects. The same name is the id of the operation on the wire."""


class Message(msgspec.Struct):
    type: str
    id: str = ""
    payload: Raw = Raw(b"null")


class Selected(msgspec.Struct):
    data: dict[str, Raw]


class Item(msgspec.Struct):
    id: str


class Prices(Feed):
    stop_on = (4400, 4401, 4403, 4406, 4409)

    def __init__(self) -> None:
        self._url = os.environ.get("GRAPHQL_URL", "ws://127.0.0.1:4000/graphql")
        self._silent: set[str] = set()  # what has sent nothing since we subscribed to it anew

    async def opening(self, after: str | None) -> Opening:
        del after  # the server cannot continue anywhere
        return Opening(url=self._url, subprotocols=["graphql-transport-ws"])

    async def opened(self, connection: NewConnection) -> None:
        await connection.send('{"type":"connection_init"}')
        found = decode(await connection.receive())
        while found is not None and found.type == "ping":
            await connection.send('{"type":"pong"}')
            found = decode(await connection.receive())
        if found is None or found.type != "connection_ack":
            raise FeedStopped("the server did not answer with connection_ack")
        for name in SUBSCRIPTIONS:
            await connection.send(subscribe(name))

    def read(self, message: bytes) -> Iterable[Action]:
        found = decode(message)
        if found is None:
            return [Refused(message, "the message is none of graphql-transport-ws")]
        match found.type:
            case "next":
                self._silent.discard(found.id)
                return [event(found, message)]
            case "ping":
                return [Send('{"type":"pong"}')]
            case "complete":
                return self._completed(found.id)
            case "error":
                return [Stop(f"the server refuses {found.id}: {bytes(found.payload)[:200].decode(errors='replace')}")]
            case _:
                return []

    def _completed(self, name: str) -> Iterable[Action]:
        if name not in SUBSCRIPTIONS:
            return []
        if name in self._silent:  # to subscribe again and again would be a loop without a pause
            return [Stop(f"the server completes {name} at once")]
        self._silent.add(name)
        return [Missed(f"the server completed {name}"), Send(subscribe(name))]


def event(found: Message, message: bytes) -> Action:
    try:
        item = msgspec.json.decode(found.payload, type=Selected).data[found.id]
        return FeedEvent(msgspec.json.decode(item, type=Item).id, item, found.id)
    except (msgspec.DecodeError, KeyError) as error:  # a field that is null, or an error of its resolver
        return Refused(message, f"the message has no {found.id} with an id: {error}")


def subscribe(name: str) -> str:
    wanted = {"id": name, "type": "subscribe", "payload": {"query": SUBSCRIPTIONS[name]}}
    return msgspec.json.encode(wanted).decode()


decoder = msgspec.json.Decoder(Message)


def decode(message: bytes) -> Message | None:
    try:
        return decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError):
        return None
