"""The probes of a real listener are correct: what a restart would fix, and whether it can take work."""

import asyncio

import httpx

from tests.end_to_end.faults.conftest import ListenerProcess, frame
from tests.end_to_end.faults.handlers import block_the_loop, named, never_give_in
from tests.support.source import running_source
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.valkey import ValkeyServer

PROBE_SECONDS = 2.0


def asked(one: ListenerProcess, probe: str) -> tuple[int, dict]:
    answer = httpx.get(f"{one.url}/health/{probe}", trust_env=False, timeout=20)
    return answer.status_code, answer.json()


def is_live(one: ListenerProcess) -> bool:
    """Probe as a supervisor does: with a time limit."""
    try:
        return httpx.get(f"{one.url}/health/live", trust_env=False, timeout=PROBE_SECONDS).status_code == 200
    except httpx.TimeoutException:
        return False


async def until(one: ListenerProcess, so) -> None:
    await asyncio.to_thread(one.child.wait_until, so, 40)


async def test_without_redis_it_is_ready_and_says_so_and_without_postgres_unready_and_live(
    own_postgres: PostgresServer, own_valkey: ValkeyServer, tmp_path, processes: list[ListenerProcess]
):
    url = own_postgres.create_database("probed")
    async with running_source() as source:
        one = ListenerProcess(tmp_path, "a", ws_url=source.url, redis_url=own_valkey.url, database_url=url)
        processes.append(one)
        await asyncio.to_thread(one.start)
        assert asked(one, "ready") == (200, {"status": "ready", "reasons": [], "remarks": []})
        own_valkey.stop()
        await until(one, lambda: one.health()["mode"] == "degraded" and one.is_ready())
        status, shown = asked(one, "ready")
        assert (status, len(shown["remarks"])) == (200, 1)
        assert shown["remarks"][0].startswith("degraded: claims are kept in PostgreSQL, without Redis (")
        assert "Connection refused" in shown["remarks"][0], "the reason the breaker opened"
        own_postgres.stop()
        await until(one, lambda: not one.is_ready())
        assert "PostgreSQL" in str(asked(one, "ready")[1]["reasons"])
        assert asked(one, "live") == (200, {"status": "live", "reasons": []})
        own_postgres.start()
        await until(one, one.is_ready)


async def test_a_blocked_event_loop_fails_liveness(servers: dict, processes: list[ListenerProcess]):
    async with running_source() as source:
        one = ListenerProcess(
            servers["directory"], "a", ws_url=source.url, redis_url=servers["redis_url"],
            database_url=servers["database_url"], handler=named(block_the_loop),
        )  # fmt: skip
        processes.append(one)
        await asyncio.to_thread(one.start)
        assert await asyncio.to_thread(is_live, one)
        await source.send(frame("blocks"))
        await until(one, lambda: one.runs_of("blocks") == 1)
        assert not await asyncio.to_thread(is_live, one)
        one.gate.touch()
        await until(one, lambda: is_live(one))


async def test_connected_and_no_longer_consuming_fails_readiness_and_not_liveness(
    servers: dict, processes: list[ListenerProcess]
):
    async with running_source() as source:
        one = ListenerProcess(
            servers["directory"], "a", ws_url=source.url, redis_url=servers["redis_url"],
            database_url=servers["database_url"], handler=named(never_give_in), handle_timeout="0.2",
            handle_concurrency="1", stuck_after="0.5",
        )  # fmt: skip
        processes.append(one)
        await asyncio.to_thread(one.start)
        await source.send(frame("stuck"), frame("behind"))
        await until(one, lambda: not one.is_ready())
        reasons = asked(one, "ready")[1]["reasons"]
        assert len(reasons) == 1
        assert reasons[0].startswith("progress: nothing in hand has moved for")
        assert one.health()["checks"]["source"], "connected the whole time"
        assert asked(one, "live")[0] == 200
        assert one.runs_of("behind") == 0
        one.gate.touch()
        await until(one, one.is_ready)
