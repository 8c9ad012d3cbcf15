"""A rerun for tests, in a separate process. Rows are files, so that they survive a kill and show "already stored".

Run as ``python -m tests.end_to_end.dlq.effects replay FILE …``. The payload says what happens to an event.
"""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Self

from unlost.dlq.commands.replay import ReplaySettings, replay_command
from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, Outcome, Rerun, Stored
from unlost.listener.core.errors import Failure, Transient
from unlost.listener.core.event import Event, decode


class Effects:
    """Stores each event as one line. A row is a file that is created only once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._under_way: set[str] = set()

    async def __aenter__(self) -> Self:
        if (self._directory / "away").exists():
            raise Transient("PostgreSQL at 127.0.0.1:1 does not answer")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert not self._under_way

    def live_handlers(self) -> list[tuple[str, str | None]]:
        return []

    async def run(self, event: Event) -> Outcome:
        assert event.event_id not in self._under_way, "one event is in progress twice"
        self._under_way.add(event.event_id)
        try:
            return await self._run(event, decode(event.payload))
        finally:
            self._under_way.discard(event.event_id)

    async def _run(self, event: Event, payload: dict) -> Outcome:
        with (self._directory / "runs").open("a") as file:
            file.write(f"{event.event_id}\n")
        await asyncio.sleep(payload.get("takes", 0))
        if payload.get("hangs"):
            while not (self._directory / "go").exists():  # noqa: ASYNC110 - another process creates it
                await asyncio.sleep(0.01)
        if payload.get("breaks"):
            raise Transient("PostgreSQL went away")
        if payload.get("fails") and not (self._directory / "repaired").exists():
            failure = Failure(time.time(), "handle", "transient", "ValueError", f"no such order {event.event_id}")
            return FailedAgain((failure,), "exhausted")
        try:
            os.close(os.open(self._directory / f"row-{event.event_id}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return AlreadyStored()
        return Stored()


def open_rerun(settings: ReplaySettings) -> Rerun:
    return Effects(Path(os.environ["EFFECTS"]))


if __name__ == "__main__":
    replay_command(open_rerun).main(sys.argv[2:], prog_name="dlq replay")
