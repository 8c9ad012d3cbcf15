"""The benchmark runs to its end, audits its rows, and no ratio misses its bar by more than noise explains."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from unlost.ops.bench.figures import BARS

ONLY_FULL = {
    "large_table", "memory_mb", "typed_us", "slow_handlers", "many_transactions", "thread_us",
    "failing_5_ms", "failing_transaction", "failing_typed", "failing_thread", "transaction_64", "replay",
    "many_listeners", "without_redis", "copy_p99", "copy_p99_two",
}  # fmt: skip
ONLY_FULL |= {name for name in BARS if "key" in name or "ordered" in name or "size" in name or "_handled" in name}
RIVALS = {"FastStream on Redis Streams", "batch loop by hand on our stream", "COPY of our stream by hand"}


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_quick_run_meets_its_bars(tmp_path: Path):
    file = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("unlost"), "bench", "--quick", "--events", "4000", "--json", str(file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    found = json.loads(file.read_text())
    assert found["ratios"].keys() == BARS.keys() - ONLY_FULL
    assert found["comparison"].keys() == RIVALS
    assert len(found["soak"]["windows"]) >= 3
    assert found["soak"]["slopes"].keys() >= {"descriptors an hour", "Redis, bytes an event"}
