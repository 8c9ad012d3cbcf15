"""Letters for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unlost.dlq.record.file import DeadLetterFile
from unlost.dlq.record.letter import Letter, letter_for, letter_for_frame
from unlost.dlq.record.letter_state import Record, What
from unlost.dlq.record.sidecar import Sidecar
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import parse


def letter(
    name: str,
    *,
    reason: Reason = "exhausted",
    at: float = 1_700_000_000.0,
    message: str = "no such order 1",
    error_type: str = "ValueError",
    route: str | None = None,
    handler: str | None = None,
    **fields: Any,
) -> Letter:
    event = parse(json.dumps({"event_id": name, "payload": {"n": 1}, **fields}), max_bytes=10**8)
    attempts = [Failure(at, "handle", "transient", error_type, message)]
    return letter_for(
        event, letter_id=f"0123456789ab-{name}", reason=reason, stage="handle", attempts=attempts, at=at,
        instance="a", epoch=1, mode="normal", source="ws://127.0.0.1/", route=route, handler=handler,
    )  # fmt: skip


def invalid(name: str, frame: bytes) -> Letter:
    return letter_for_frame(
        frame, letter_id=f"0123456789ab-{name}", message="not JSON", event_id=None, at=1_700_000_000.0,
        instance="a", source=None,
    )  # fmt: skip


def write(path: Path, some: Sequence[Letter]) -> Path:
    file = DeadLetterFile(path)
    file.append(some)
    file.close()
    return path


def mark(path: Path, name: str, what: What, detail: str = "") -> None:
    sidecar = Sidecar(path)
    sidecar.append([Record(f"0123456789ab-{name}", what, 1_700_000_100.0, detail)])
    sidecar.close()
