"""The example of payments: its own tests, and a real listener that reports to a real receiver."""

import asyncio
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.listeners import running_listener
from tests.support.receiver import Call, receiving, status
from tests.support.source import running_source
from unlost.listener.core.facts import EffectDelivered

PAYMENTS = Path(__file__).parents[3] / "docs" / "examples" / "payments"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(PAYMENTS)
    yield
    for name in ("payments", "receiver"):
        sys.modules.pop(name, None)


@pytest.mark.timeout(120)
def test_the_tests_of_the_payments_pass(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    done = subprocess.run([*run, str(PAYMENTS)], cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


async def test_each_payment_is_reported_once_although_calls_are_repeated(
    redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_side = importlib.import_module("receiver").Receiver(SECRET)

    async def take(call: Call, writer: asyncio.StreamWriter) -> None:
        code = other_side.receive(call.headers, call.body)
        await status(code)(call, writer)

    async def take_and_fail(call: Call, writer: asyncio.StreamWriter) -> None:
        other_side.receive(call.headers, call.body)
        writer.transport.abort()  # the answer is lost

    connection = await asyncpg.connect(database_url)
    await connection.execute("create table accounts (name text primary key, cents int)")
    await connection.close()
    payments = [
        {"event_id": f"p-{n}", "type": "payment.taken", "payload": {"account": "ada", "cents": n}} for n in (1, 2)
    ]
    async with receiving(take_and_fail, then=take) as receiver, running_source() as source:
        source.backlog = lambda _: [json.dumps(one) for one in payments]
        monkeypatch.setenv("HOOK_URL", receiver.url)
        async with running_listener(
            ws_url=source.url, redis_url=redis_url, database_url=database_url, directory=tmp_path,
            handler="payments:app", effect_hosts=f"http://127.0.0.1:{receiver.port}", effect_networks="127.0.0.1/32",
            effect_secrets=f"127.0.0.1={SECRET}", effect_first="0.05",
        ) as listener:  # fmt: skip
            await listener.heard.until(lambda heard: len(heard.of(EffectDelivered)) == 2)
    assert len(receiver.calls) == 3
    assert sorted(json.loads(one)["payment"] for one in other_side.done) == ["p-1", "p-2"]
    forged = Call("/", {**receiver.calls[0].headers, "webhook-id": "msg_other"}, receiver.calls[0].body)
    assert other_side.receive(forged.headers, forged.body) == 401


def test_the_receiver_refuses_what_is_not_signed() -> None:
    other_side = importlib.import_module("receiver").Receiver(SECRET)
    assert other_side.receive({}, b"") == 401
