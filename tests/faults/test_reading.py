"""While PostgreSQL is away, a listener shows all that it knows by itself."""

import asyncio
from pathlib import Path

import httpx
from toxiproxy import Toxiproxy

from tests.support.listeners import running_listener
from tests.support.stream import resuming_source
from tests.support.toxics import toxic_wire
from unlost.listener.core.facts import EventsClaimed, EventsStored


async def test_without_postgresql_it_says_what_it_knows_and_what_it_cannot_know(
    redis_url: str, database_url: str, fault_proxies: Toxiproxy, tmp_path: Path
) -> None:
    async with (
        resuming_source() as source,
        toxic_wire(fault_proxies, database_url) as wire,
        running_listener(
            ws_url=source.url, redis_url=redis_url, database_url=wire.url, directory=tmp_path, database_timeout="0.5"
        ) as listener,
    ):
        await source.publish("stored")
        await listener.heard.until(lambda h: "stored" in h.ids(EventsStored))
        await wire.refuse()
        await source.publish("waiting")
        await listener.heard.until(lambda h: "waiting" in h.ids(EventsClaimed))

        async def got(path: str) -> httpx.Response:
            return await asyncio.to_thread(
                httpx.get, f"http://127.0.0.1:{listener.daemon.port}{path}", trust_env=False, timeout=20
            )

        stored, waiting, unknown = [await got(f"/api/events/{name}") for name in ("stored", "waiting", "unknown")]
        assert (stored.status_code, waiting.status_code, unknown.status_code) == (200, 200, 503)
        assert stored.json()["row"] is None
        assert stored.json()["row_unknown"].startswith("PostgreSQL does not answer now")
        assert stored.json()["recent"][-1]["what"] == "stored"
        assert waiting.json()["in_flight"]["state"] == "owner"
        page = await got("/api/events")
        assert (page.status_code, page.headers["retry-after"]) == (503, "2")
        assert (await got("/api/outcomes?ids=stored")).json()["outcomes"]["stored"][-1]["what"] == "stored"
        assert (await got("/health/live")).status_code == 200
        await wire.heal()
        await listener.heard.until(lambda h: "waiting" in h.ids(EventsStored))
        again = await got("/api/events/stored")
        assert again.json()["row"]["event_id"] == "stored"
        assert "row_unknown" not in again.json()
