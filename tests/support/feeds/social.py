"""Bluesky's Jetstream, Slack's Socket Mode, Twitch's EventSub, and a gateway that speaks Discord's protocol."""

import asyncio
import contextlib
import http
import itertools
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.support.feeds.feed import StandIn, received

DID = "did:plc:eygmaihciaxpr"
TOKEN = "xapp-1-A111-222-abcdef"


class Jetstream(StandIn):
    """Resumes by ?cursor=, in microseconds; ``identity`` messages stand between commits."""

    source = "jetstream"
    gapless = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str | None] = []

    def environment(self) -> dict[str, str]:
        return {"JETSTREAM_URL": self.url}

    async def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        query = parse_qs(urlsplit(client.request.path).query)
        assert query["wantedCollections"] == ["app.bsky.feed.post"]
        cursor = query.get("cursor", [None])[0]
        self.asked.append(cursor)
        if cursor is not None:
            for number in range(self.published):
                if self.time_of(number) >= int(cursor):
                    await client.send(self.message(number, client))
        await super().talk(client)

    def time_of(self, number: int) -> int:
        return 1725911162329308 + number * 100_000

    def message(self, number: int, client: ServerConnection) -> str:
        commit = {
            "rev": f"3l3qo2vutsw{number}", "operation": "create", "collection": "app.bsky.feed.post",
            "rkey": f"3l3qo2vuowo{number}", "cid": f"bafyreidwaiv{number}",
            "record": {"$type": "app.bsky.feed.post", "createdAt": "2024-09-09T19:46:02.102Z", "text": "hello"},
        }  # fmt: skip
        return json.dumps({"did": DID, "time_us": self.time_of(number), "kind": "commit", "commit": commit})

    def event_id(self, number: int) -> str:
        return f"{DID}/app.bsky.feed.post/3l3qo2vuowo{number}@3l3qo2vutsw{number}"

    async def deliver(self, number: int) -> None:
        await super().deliver(number)
        if number % 10 == 0:
            identity = {"did": DID, "handle": "x.bsky.social", "seq": number, "time": "2024"}
            about = {"did": DID, "time_us": self.time_of(number) + 1, "kind": "identity", "identity": identity}
            for client in list(self.subscribed):
                await self.control(client, about)

    def check(self) -> None:
        assert self.asked[:2] == [None, None]
        assert len(self.asked) == 2 + self.starts
        assert all(cursor and int(cursor) >= self.time_of(0) - 2_000_000 for cursor in self.asked[2:])


class Slack(StandIn):
    """Gives each event to one connection, and again to another if it is not acknowledged in time."""

    source = "slack"
    gapless = True
    redeliver_after = 0.4

    def __init__(self) -> None:
        super().__init__()
        self.tickets = itertools.count(1)
        self.valid: set[str] = set()
        self.unacknowledged: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.deliveries = 0
        self.turns = itertools.count()
        self.redelivering: asyncio.Task[None] | None = None

    def environment(self) -> dict[str, str]:
        return {"SLACK_API_URL": f"http://127.0.0.1:{self.port}/api", "SLACK_APP_TOKEN": TOKEN}

    def process_request(self, connection: ServerConnection, request: Any) -> Any:
        address = urlsplit(request.path)
        if address.path == "/api/apps.connections.open":
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return connection.respond(http.HTTPStatus.OK, json.dumps({"ok": False, "error": "invalid_auth"}))
            ticket = str(next(self.tickets))
            self.valid.add(ticket)
            answer = {"ok": True, "url": f"{self.url}/link/?ticket={ticket}&app_id=5678"}
            return connection.respond(http.HTTPStatus.OK, json.dumps(answer))
        ticket = parse_qs(address.query).get("ticket", [""])[0]
        if ticket not in self.valid:
            return connection.respond(http.HTTPStatus.FORBIDDEN, "the ticket was used before")
        self.valid.discard(ticket)
        return None

    async def talk(self, client: ServerConnection) -> None:
        await self.control(client, {"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        await self.subscribe(client)
        async for message in client:
            envelope = json.loads(message)["envelope_id"]
            self.unacknowledged.pop(envelope, None)
            self.acknowledged.add(envelope)
            async with self.changed:
                self.changed.notify_all()

    def message(self, number: int, client: ServerConnection) -> str:
        event = {"type": "message", "channel": "C1", "text": "hi", "ts": f"1355517523.{number:06d}"}
        payload = {"token": "x", "team_id": "T1", "event": event, "type": "event_callback", "event_id": f"Ev{number}"}
        return json.dumps(
            {"envelope_id": f"env-{number}", "payload": payload, "type": "events_api",
             "accepts_response_payload": False, "retry_attempt": 0, "retry_reason": ""}
        )  # fmt: skip

    def event_id(self, number: int) -> str:
        return f"Ev{number}"

    async def deliver(self, number: int) -> None:
        self.redelivering = self.redelivering or asyncio.create_task(self._redeliver())
        self.unacknowledged[f"env-{number}"] = number
        await self._give(number)

    async def until_acknowledged(self) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: not self.unacknowledged), 15)

    async def _give(self, number: int) -> None:
        if not self.subscribed:
            return
        self.deliveries += 1
        client = self.subscribed[next(self.turns) % len(self.subscribed)]
        with contextlib.suppress(ConnectionClosed):
            await client.send(self.message(number, client))

    async def _redeliver(self) -> None:
        while True:
            waiting = list(self.unacknowledged.values())
            await asyncio.sleep(self.redeliver_after)
            for number in waiting:
                if f"env-{number}" in self.unacknowledged:
                    await self._give(number)

    async def end(self, client: ServerConnection) -> None:
        await self.control(client, {"type": "disconnect", "reason": "refresh_requested", "debug_info": {"host": "h"}})

    def check(self) -> None:
        assert len(self.acknowledged) == self.published, "each event is acknowledged in the end"

    async def stop(self) -> None:
        if self.redelivering is not None:
            self.redelivering.cancel()
        await super().stop()


class Twitch(StandIn):
    """Wants an HTTP call for each session, sends a new address before it ends one, and tolerates no message."""

    source = "twitch"
    gapless = True

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, ServerConnection] = {}
        self.names = itertools.count(1)
        self.wanted = asyncio.Condition()
        self.ready: set[str] = set()
        self.api: Any = None
        self.refuses = ""
        """The status with which it refuses subscriptions."""
        self.keepalive = 10.0
        self.calls: list[dict[str, Any]] = []

    def environment(self) -> dict[str, str]:
        wanted = [{"type": "stream.online", "version": "1", "condition": {"broadcaster_user_id": "1337"}}]
        return {
            "TWITCH_URL": f"{self.url}/ws", "TWITCH_CLIENT_ID": "client", "TWITCH_TOKEN": "sesame-token",
            "TWITCH_API_URL": f"http://127.0.0.1:{self.api.sockets[0].getsockname()[1]}/subscriptions",
            "TWITCH_SUBSCRIPTIONS": json.dumps(wanted),
        }  # fmt: skip

    async def start(self) -> None:
        await super().start()
        self.api = await asyncio.start_server(self._answer, "127.0.0.1", 0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        good = "authorization: bearer sesame-token" in head and "client-id: client" in head and not self.refuses
        session = body["transport"]["session_id"]
        if good and session in self.sessions:
            self.calls.append(body)
            async with self.wanted:
                self.ready.add(session)
                self.wanted.notify_all()
        status = "202 Accepted" if good else self.refuses or "401 Unauthorized"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()

    async def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        moved = parse_qs(urlsplit(client.request.path).query).get("challenge", [None])[0]
        session = moved or f"session-{next(self.names)}"
        old = self.sessions.get(session) if moved else None
        self.sessions[session] = client
        described = {
            "id": session, "status": "connected", "connected_at": "2022-11-16T10:11:12.464757833Z",
            "keepalive_timeout_seconds": self.keepalive, "reconnect_url": None,
        }  # fmt: skip
        await self.control(client, self.enveloped("session_welcome", {"session": described}))
        if moved is None and not await self._is_wanted(session, client):
            await client.close(4003, "connection unused")
            return
        await self.subscribe(client)
        if old in self.subscribed:  # it gets no more events, and is left to the client
            self.subscribed.remove(old)
        async for _ in client:
            await client.close(4001, "client sent inbound traffic")

    async def _is_wanted(self, session: str, client: ServerConnection) -> bool:
        """Wait for a subscription of this session, as long as its client stays."""
        left = asyncio.create_task(client.wait_closed())
        wanted = asyncio.create_task(self._until_wanted(session))
        await asyncio.wait({left, wanted}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        for task in (left, wanted):
            task.cancel()
        return session in self.ready

    async def _until_wanted(self, session: str) -> None:
        async with self.wanted:
            await self.wanted.wait_for(lambda: session in self.ready)

    def enveloped(self, kind: str, payload: object, number: int | None = None, **more: object) -> dict[str, object]:
        name = f"{kind}-{self.control_sent}" if number is None else self.event_id(number)
        stamp = "2022-11-16T10:11:12.634234626Z"
        metadata = {"message_id": name, "message_type": kind, "message_timestamp": stamp, **more}
        return {"metadata": metadata, "payload": payload}

    def message(self, number: int, client: ServerConnection) -> str:
        subscription = {"id": "f1c2a387", "status": "enabled", "type": "stream.online", "version": "1", "cost": 1}
        payload = {"subscription": subscription, "event": {"id": str(number), "broadcaster_user_id": "1337"}}
        kind = {"subscription_type": "stream.online", "subscription_version": "1"}
        return json.dumps(self.enveloped("notification", payload, number, **kind))

    def event_id(self, number: int) -> str:
        return f"befa7b53-d79d-478f-86b9-{number:012d}"

    async def revoke(self, client: ServerConnection) -> None:
        """End a subscription of this client, as when a user withdraws what an app may do."""
        subscription = {"id": "f1c2a387", "status": "authorization_revoked", "type": "stream.online", "version": "1"}
        await self.control(client, self.enveloped("revocation", {"subscription": subscription}))

    async def end(self, client: ServerConnection) -> None:
        session = next(name for name, one in self.sessions.items() if one is client)
        moved = {"id": session, "status": "reconnecting", "reconnect_url": f"{self.url}/ws?challenge={session}"}
        await self.control(client, self.enveloped("session_reconnect", {"session": moved}))

    def check(self) -> None:
        assert len(self.calls) == self.starts, "a session that moves keeps its subscriptions"

    async def stop(self) -> None:
        self.api.close()
        await super().stop()


class Gateway(StandIn):
    """Wants heartbeats, and resumes a session after the number of the last event."""

    source = "discord"
    gapless = True
    interval = 100

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count(1)
        self.sent: dict[str, list[int]] = {}
        self.session_of: dict[ServerConnection, str] = {}
        self.beats: list[Any] = []
        self.zombies: set[ServerConnection] = set()
        """Open connections on which it sends nothing more."""
        self.resumed: list[tuple[str, int]] = []

    def environment(self) -> dict[str, str]:
        return {"DISCORD_URL": f"{self.url}/?v=10&encoding=json", "DISCORD_TOKEN": "sesame-token"}

    async def talk(self, client: ServerConnection) -> None:
        await self.control(client, {"op": 10, "d": {"heartbeat_interval": self.interval}, "s": None, "t": None})
        first = await received(client)
        assert first["d"]["token"] == "sesame-token"
        if first["op"] == 6:
            session, after = first["d"]["session_id"], first["d"]["seq"] or 0
            self.resumed.append((session, after))
            self.session_of[client] = session
            for at, number in enumerate(self.sent[session][:], 1):
                if at > after and number >= 0:
                    await client.send(self._dispatch(number, at))
            await self.control(client, {"op": 0, "t": "RESUMED", "s": len(self.sent[session]), "d": {}})
        else:
            session = f"session-{next(self.names)}"
            self.sent[session], self.session_of[client] = [-1], session
            ready = {"v": 10, "session_id": session, "resume_gateway_url": f"{self.url}/?v=10&encoding=json"}
            await self.control(client, {"op": 0, "t": "READY", "s": 1, "d": ready})
        await self.subscribe(client)
        async for message in client:
            beat = json.loads(message)
            assert beat["op"] == 1
            self.beats.append(beat["d"])
            if client not in self.zombies:
                await self.control(client, {"op": 11})
            async with self.changed:
                self.changed.notify_all()

    async def deliver(self, number: int) -> None:
        for session in self.sent:
            self.sent[session].append(number)
        await super().deliver(number)

    def message(self, number: int, client: ServerConnection) -> str:
        return self._dispatch(number, len(self.sent[self.session_of[client]]))

    def _dispatch(self, number: int, at: int) -> str:
        data = {"id": str(10**17 + number), "channel_id": "1", "content": "hi", "edited_timestamp": None}
        return json.dumps({"op": 0, "t": "MESSAGE_CREATE", "s": at, "d": data})

    def event_id(self, number: int) -> str:
        return f"MESSAGE_CREATE:{10**17 + number}"

    async def beaten(self, number: int) -> None:
        """Return once a heartbeat carries this number."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: number in self.beats), 15)

    def fall_silent(self, client: ServerConnection) -> None:
        """Forget a connection, and leave it open."""
        self.zombies.add(client)
        self.subscribed.remove(client)

    async def end(self, client: ServerConnection) -> None:
        await client.close(4000, "please reconnect")

    def check(self) -> None:
        assert len(self.resumed) == 2
        assert self.beats, "heartbeats carry the number of the last event"
