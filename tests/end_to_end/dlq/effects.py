"""A rerun for tests, in a separate process. Rows are files, so that they survive a kill and show "already stored".

Run as ``python -m tests.end_to_end.dlq.effects replay FILE …``. The payload says what happens to an event.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

from unlost.dlq.commands.replay import ReplaySettings, replay_command
from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, NowStored, Outcome, Rerun
from unlost.listener.core.errors import Failure, Transient
from unlost.listener.core.event import Edited, Event, decode


class Effects:
    """Stores each event as one line. A row is a file that is created only once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._under_way: dict[str, asyncio.Task[Outcome]] = {}
        self._broken: asyncio.Future[None]

    async def __aenter__(self) -> Self:
        if (self._directory / "away").exists():
            raise Transient("PostgreSQL at 127.0.0.1:1 does not answer")
        self._broken = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._under_way.values():
            task.cancel()

    def start_effect(self, event_id: str, number: int, ended: Callable[[Outcome], None]) -> None:
        raise AssertionError("no letter here is of an effect")

    def live_handlers(self) -> list[tuple[str, str | None]]:
        return []

    at_once = 16

    def start(
        self,
        event: Event,
        ended: Callable[[Outcome], None],
        edited: Edited | None = None,
        *,
        order_key: str | None = None,
    ) -> None:
        assert event.event_id not in self._under_way, "one event is in progress twice"
        self._under_way[event.event_id] = task = asyncio.create_task(self._run(event, decode(event.payload)))
        task.add_done_callback(lambda _: self._end(event, task, ended))

    def _end(self, event: Event, task: "asyncio.Task[Outcome]", ended: Callable[[Outcome], None]) -> None:
        del self._under_way[event.event_id]
        if task.cancelled():
            return
        if error := task.exception():
            self._broken.set_exception(error)
        else:
            ended(task.result())

    async def unable(self) -> NoReturn:
        await self._broken
        raise AssertionError("it only ends with an error")

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
        return NowStored()


def open_rerun(settings: ReplaySettings) -> Rerun:
    return Effects(Path(os.environ["EFFECTS"]))


def open_shadow(settings: ReplaySettings) -> NoReturn:
    raise AssertionError(f"no shadow of {settings.handler}")


if __name__ == "__main__":
    replay_command(open_rerun, open_shadow).main(sys.argv[2:], prog_name="dlq replay")
