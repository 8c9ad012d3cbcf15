"""GraphQL, Socket.IO, Phoenix channels, CloudEvents, and the envelopes of two small producers."""

import json
from typing import Any, ClassVar

from websockets.asyncio.server import ServerConnection
from websockets.typing import Subprotocol

from tests.support.feeds.feed import StandIn, received


class GraphQL(StandIn):
    """graphql-transport-ws."""

    source = "graphql-transport-ws"
    subprotocols: ClassVar[Any] = [Subprotocol("graphql-transport-ws")]

    def environment(self) -> dict[str, str]:
        query = "subscription { tick { id n } }"
        return {
            "GRAPHQL_URL": f"{self.url}/graphql",
            "GRAPHQL_SUBSCRIPTION": json.dumps(query),
            "GRAPHQL_FIELD": "tick",
        }

    async def talk(self, client: ServerConnection) -> None:
        if client.subprotocol != "graphql-transport-ws":
            await client.close(4406, "Subprotocol not acceptable")
            return
        if (await received(client))["type"] != "connection_init":
            await client.close(4401, "Unauthorized")
            return
        await self.control(client, {"type": "connection_ack"})
        asked = await received(client)
        assert asked["type"] == "subscribe"
        assert asked["payload"]["query"]
        await self.subscribe(client)
        await self.control(client, {"type": "ping"})
        async for message in client:
            assert json.loads(message) == {"type": "pong"}

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps(
            {"id": "unlost", "type": "next", "payload": {"data": {"tick": {"id": f"t{number}", "n": number}}}}
        )

    def event_id(self, number: int) -> str:
        return f"t{number}"

    async def end(self, client: ServerConnection) -> None:
        await self.control(client, {"id": "unlost", "type": "complete"})


class SocketIO(StandIn):
    """Engine.IO 4 and Socket.IO 5, over WebSocket alone."""

    source = "socketio"

    def environment(self) -> dict[str, str]:
        return {"SOCKETIO_URL": self.url}

    async def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        assert client.request.path == "/socket.io/?EIO=4&transport=websocket"
        hello = {"sid": "lv_VI97HAXpY6yYWAAAC", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000}
        await self.control(client, "0" + json.dumps(hello))
        assert await client.recv() == "40"
        await self.control(client, '40{"sid":"wZX3oN0bSVIhsaknAAAI"}')
        await self.subscribe(client)
        await self.control(client, "2")
        async for message in client:
            assert message == "3"

    def message(self, number: int, client: ServerConnection) -> str:
        return "42" + json.dumps(["event", {"event_id": f"s{number}", "n": number}])

    def event_id(self, number: int) -> str:
        return f"s{number}"


class Phoenix(StandIn):
    """Channels, with serializer 2."""

    source = "phoenix"

    def environment(self) -> dict[str, str]:
        return {"PHOENIX_URL": self.url, "PHOENIX_TOPIC": "room:lobby"}

    async def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        assert client.request.path == "/socket/websocket?vsn=2.0.0"
        joined, reference, topic, event, _ = await received(client)
        assert (topic, event) == ("room:lobby", "phx_join")
        await self.control(client, [joined, reference, topic, "phx_reply", {"status": "ok", "response": {}}])
        await self.control(client, [joined, None, topic, "presence_state", {}])
        await self.subscribe(client)
        async for message in client:
            _, reference, topic, event, _ = json.loads(message)
            assert (topic, event) == ("phoenix", "heartbeat")
            await self.control(client, [None, reference, "phoenix", "phx_reply", {"status": "ok", "response": {}}])

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps(["1", None, "room:lobby", "new_msg", {"id": number, "body": "hi"}])

    def event_id(self, number: int) -> str:
        return str(number)


class CloudEvents(StandIn):
    """Structured events, one in each message."""

    source = "cloudevents"
    subprotocols: ClassVar[Any] = [Subprotocol("cloudevents.json")]

    def environment(self) -> dict[str, str]:
        return {"CLOUDEVENTS_URL": self.url}

    async def talk(self, client: ServerConnection) -> None:
        assert client.subprotocol == "cloudevents.json"
        await super().talk(client)

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps(
            {"specversion": "1.0", "type": "com.example.made", "source": "/shop", "id": str(number),
             "datacontenttype": "application/json", "data": {"n": number}}
        )  # fmt: skip

    def event_id(self, number: int) -> str:
        return f"/shop#{number}"


class Seed000(StandIn):
    """The names that a .NET serializer writes."""

    source = "seed-000"

    def environment(self) -> dict[str, str]:
        return {"FEED_URL": self.url}

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps({"EventId": f"e{number}", "EventType": "OrderPlaced", "Data": {"n": number}})

    def event_id(self, number: int) -> str:
        return f"e{number}"


class Seed001(Seed000):
    """event_id and payload."""

    source = "seed-001"

    def event_id(self, number: int) -> str:
        return f"evt_{number}"

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps({"event_id": self.event_id(number), "payload": {"message": "hello", "n": number}})
