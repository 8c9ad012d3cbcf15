"""A signed request of a locked address is refused before any of its body is read."""

import base64
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.lockout import FREE
from unlost.ops.kit.access.request import AccessRequest, Refusal
from unlost.ops.kit.access.sender_file import sender_file
from unlost.producer.app.signed import Signed


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("it passes nothing on")


async def unread() -> Message:
    raise AssertionError("the body is read")


@pytest.mark.parametrize(("failures", "status"), [(FREE + 1, 429), (0, None)])
async def test_the_lockout_is_asked_before_the_body(tmp_path: Path, failures: int, status: int | None) -> None:
    file = tmp_path / "senders"
    file.write_text(f"bank=whsec_{base64.b64encode(bytes(32)).decode()}\n")
    file.chmod(0o600)
    senders = sender_file(file)
    senders.load()
    gate = Gate(CollectorRegistry(), senders=senders)
    for _ in range(failures):
        gate.guessed(AccessRequest("POST /publish, signed", "10.0.0.1", None), Refusal(401, "signature", "wrong"))
    headers = {"webhook-id": "a", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,bm90IGl0"}
    scope = {
        "type": "http", "method": "POST", "path": "/publish", "client": ("10.0.0.1", 1), "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    signed = Signed(never, never, "/publish", gate, max_bytes=1_000)
    if status is None:
        with pytest.raises(AssertionError, match="the body is read"):
            await signed(scope, unread, send)
        return
    await signed(scope, unread, send)
    assert sent[0]["status"] == status
