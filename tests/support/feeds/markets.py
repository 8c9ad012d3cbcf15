"""Coinbase Exchange and Advanced Trade, Kraken and Binance."""

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection

from tests.support.feeds.feed import StandIn, received

SUBSCRIBE_WITHIN = 5.0


class CoinbaseExchange(StandIn):
    """Closes a connection without a subscription. Repeats the last trade, with other words, after subscribing."""

    source = "coinbase-exchange"

    def environment(self) -> dict[str, str]:
        nowhere = "http://127.0.0.1:9"  # unless a test serves what gaps have missed
        return {
            "COINBASE_URL": self.url,
            "COINBASE_API_URL": nowhere,
            "COINBASE_PRODUCTS": '["BTC-USD","ETH-USD"]',
        }

    async def talk(self, client: ServerConnection) -> None:
        async with asyncio.timeout(SUBSCRIBE_WITHIN):
            asked = await received(client)
        if asked.get("type") != "subscribe" or "matches" not in asked["channels"]:
            await self.control(client, {"type": "error", "message": "Failed to subscribe", "reason": "no channels"})
            return
        if self.published:
            await self.control(client, self.trade(self.published - 1) | {"type": "last_match"})
        channels = [{"name": name, "product_ids": asked["product_ids"]} for name in asked["channels"]]
        await self.control(client, {"type": "subscriptions", "channels": channels})
        await self.subscribe(client)
        async for _ in client:
            pass

    def trade(self, number: int) -> dict[str, object]:
        return {
            "type": "match", "trade_id": 1000 + number, "sequence": 50 * number,
            "maker_order_id": "ac928c66-ca53-498f-9c13-27a110027a60",
            "taker_order_id": "132fb6ae-456b-4654-b4e0-d681ac05cea1", "time": "2014-11-07T08:19:27.028459Z",
            "product_id": "BTC-USD", "size": "5.23512", "price": "400.23", "side": "sell",
        }  # fmt: skip

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps(self.trade(number))

    def event_id(self, number: int) -> str:
        return f"BTC-USD:{1000 + number}"

    async def deliver(self, number: int) -> None:
        await super().deliver(number)
        if number % 10 == 0:
            for client in list(self.subscribed):
                beat = {
                    "type": "heartbeat",
                    "sequence": number,
                    "last_trade_id": 1000 + number,
                    "product_id": "BTC-USD",
                }
                await self.control(client, beat)


class CoinbaseAdvanced(StandIn):
    """Numbers each message of a connection, and sends the last trades as a snapshot first."""

    source = "coinbase-advanced"

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[ServerConnection, int] = {}

    def environment(self) -> dict[str, str]:
        return {"COINBASE_ADVANCED_URL": self.url}

    def numbered(self, client: ServerConnection, channel: str, events: list[object]) -> str:
        number = self.numbers.get(client, -1) + 1
        self.numbers[client] = number
        return json.dumps(
            {"channel": channel, "client_id": "", "timestamp": f"2023-02-09T20:19:{number % 60:02d}.849Z",
             "sequence_num": number, "events": events}
        )  # fmt: skip

    async def talk(self, client: ServerConnection) -> None:
        async with asyncio.timeout(SUBSCRIBE_WITHIN):
            channels = [(await received(client))["channel"] for _ in range(2)]
        assert channels == ["market_trades", "heartbeats"]
        last = [self.trade(number) for number in range(max(0, self.published - 5), self.published)]
        await client.send(self.numbered(client, "market_trades", [{"type": "snapshot", "trades": last}]))
        await self.control(client, self.numbered(client, "subscriptions", [{"subscriptions": {"market_trades": []}}]))
        await self.subscribe(client)
        async for _ in client:
            pass

    def trade(self, number: int) -> dict[str, object]:
        return {
            "trade_id": f"{number:09d}", "product_id": "BTC-USD", "price": "1260.01", "size": "0.3", "side": "BUY",
            "time": "2019-08-14T20:42:27.265Z",
        }  # fmt: skip

    def message(self, number: int, client: ServerConnection) -> str:
        return self.numbered(client, "market_trades", [{"type": "update", "trades": [self.trade(number)]}])

    def event_id(self, number: int) -> str:
        return f"BTC-USD:{number:09d}"

    async def deliver(self, number: int) -> None:
        await super().deliver(number)
        if number % 10 == 0:
            for client in list(self.subscribed):
                beat = {"current_time": "2023-06-23 20:31:56.12 +0000 UTC", "heartbeat_counter": str(number)}
                await self.control(client, self.numbered(client, "heartbeats", [beat]))


class Kraken(StandIn):
    """Puts several trades into one message, and the last ones into a snapshot."""

    source = "kraken"

    def environment(self) -> dict[str, str]:
        return {"KRAKEN_URL": f"{self.url}/v2"}

    async def talk(self, client: ServerConnection) -> None:
        status = {"api_version": "v2", "connection_id": id(client), "system": "online", "version": "2.0.0"}
        await self.control(client, {"channel": "status", "type": "update", "data": [status]})
        asked = await received(client)
        assert asked["method"] == "subscribe"
        result = {"channel": "trade", "snapshot": True, "symbol": "BTC/USD"}
        await self.control(client, {"method": "subscribe", "result": result, "success": True, "time_in": "x"})
        last = [self.trade(number) for number in range(max(0, self.published - 50), self.published)]
        await client.send(json.dumps({"channel": "trade", "type": "snapshot", "data": last}))
        await self.subscribe(client)
        async for _ in client:
            pass

    def trade(self, number: int) -> dict[str, object]:
        return {
            "symbol": "BTC/USD", "side": "sell", "price": 4136.4, "qty": 0.23374249, "ord_type": "limit",
            "trade_id": 4665846 + number, "timestamp": "2023-09-25T07:48:36.925533Z",
        }  # fmt: skip

    def message(self, number: int, client: ServerConnection) -> str:
        before = [self.trade(number - 1)] if number % 2 else []
        return json.dumps({"channel": "trade", "type": "update", "data": [*before, self.trade(number)]})

    def event_id(self, number: int) -> str:
        return f"BTC/USD:{4665846 + number}"

    async def deliver(self, number: int) -> None:
        await super().deliver(number)
        if number % 10 == 0:
            for client in list(self.subscribed):
                await self.control(client, {"channel": "heartbeat"})


class Binance(StandIn):
    """Sends what its address asks for, and says when a connection is about to end."""

    source = "binance"
    gapless = True

    def environment(self) -> dict[str, str]:
        return {"BINANCE_URL": self.url, "BINANCE_STREAMS": "btcusdt@trade"}

    async def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        address = urlsplit(client.request.path)
        assert (address.path, parse_qs(address.query)) == ("/stream", {"streams": ["btcusdt@trade"]})
        await super().talk(client)

    def message(self, number: int, client: ServerConnection) -> str:
        trade = {
            "e": "trade", "E": 1672515782136 + number, "s": "BTCUSDT", "t": number, "p": "0.001", "q": "100",
            "T": 1672515782136 + number, "m": True, "M": True,
        }  # fmt: skip
        return json.dumps({"stream": "btcusdt@trade", "data": trade})

    def event_id(self, number: int) -> str:
        return f"BTCUSDT:{number}"

    async def end(self, client: ServerConnection) -> None:
        await self.control(client, {"stream": "btcusdt@trade", "data": {"e": "serverShutdown", "E": 1672515782136}})
