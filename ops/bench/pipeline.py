"""``ops bench``: how fast events are published, and how fast listeners turn them into rows.

Everything runs on this machine: producer, Valkey, PostgreSQL and the listeners share its cores. The events wait in
the journal before the listeners start, so that publishing and storing are measured one after the other.
"""

import asyncio
import json
import tempfile
import threading
import time
import uuid
from pathlib import Path

import asyncpg
import click
import httpx
from pydantic import Field

from ops.command import Settings, command
from ops.local.layout import Layout, free_ports
from ops.local.system import System

LINES = 2_000


class BenchSettings(Settings):
    """What is measured."""

    events: int = Field(50_000, ge=1_000, description="Events to publish and store")
    listener_count: int = Field(1, ge=1, le=4, description="Listeners that store them")
    payload_bytes: int = Field(200, ge=0, le=100_000, description="Bytes of filling in each payload")


@command(
    BenchSettings,
    examples=["ops bench", "ops bench --events 200000 --listener-count 2", "ops bench --json"],
    params=[click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")],
)
def bench(settings: BenchSettings, as_json: bool) -> int:
    """Measure publishing and storing on this machine, on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="unlost-bench-") as directory:
        Path(directory).chmod(0o711)
        layout = Layout(Path(directory), free_ports(settings.listener_count), {"log_level": "warning"})
        system = System(layout, lambda _: None, threading.Event())
        try:
            system.start()
            figures = asyncio.run(_measure(system, settings))
        finally:
            system.stop()
    click.echo(
        json.dumps(figures) if as_json else "\n".join(f"{name:<28}{value:>12,}" for name, value in figures.items())
    )
    return 0 if figures["rows"] == settings.events else 1


async def _measure(system: System, settings: BenchSettings) -> dict[str, int]:
    for listener in system.listeners:
        await asyncio.to_thread(listener.stop)
    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=system.layout.producer_url, timeout=60, trust_env=False) as client:
        for body in _bodies(settings):
            (await client.post("/publish/batch", content=body)).raise_for_status()
    published = time.perf_counter() - started
    for listener in system.listeners:
        listener.start()
    seconds, rows = await _until_stored(system.postgres.url, settings.events)
    return {
        "published_per_second": round(settings.events / published),
        "stored_per_second": round(rows / seconds),
        "rows": rows,
    }


def _bodies(settings: BenchSettings) -> list[bytes]:
    filling = "x" * settings.payload_bytes
    lines = [
        json.dumps({"event_id": str(uuid.uuid4()), "type": "bench", "payload": {"n": n, "text": filling}})
        for n in range(settings.events)
    ]
    return ["\n".join(lines[i : i + LINES]).encode() for i in range(0, len(lines), LINES)]


async def _until_stored(database_url: str, count: int) -> tuple[float, int]:
    """Seconds from the first row to the last, by PostgreSQL's clock, and how many rows there are."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(600):
            while await connection.fetchval("select count(*) from events") < count:  # noqa: ASYNC110  other processes
                await asyncio.sleep(0.25)
        row = await connection.fetchrow(
            "select extract(epoch from max(processed_at) - min(received_at))::float8, count(*) from events"
        )
        assert row is not None
        return float(row[0]), int(row[1])
    finally:
        await connection.close()
