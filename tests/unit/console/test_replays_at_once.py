"""How many replays an identity may run at once in a console."""

import asyncio
from collections.abc import Callable

import pytest

from unlost.ops.console.replays import KEPT, MOST_AT_ONCE, Busy, ReplayRequest, ReplayRun, Replays
from unlost.ops.kit.telemetry.redact import Redactor

PLANS = [{"file": "", "letters": 1}]


class Held(Replays):
    """Replays that run until they are cancelled."""

    def __init__(self) -> None:
        super().__init__({}, Redactor(()))
        self.ends: dict[str, asyncio.Event] = {}

    async def _run(self, replay: ReplayRun) -> None:
        end = self.ends.setdefault(replay.replay_id, asyncio.Event())
        await end.wait()
        replay.ended_at = replay.began_at
        replay.state = "cancelled"

    def cancel(self, replay_id: str) -> dict[str, object] | None:
        self.ends.setdefault(replay_id, asyncio.Event()).set()
        return super().cancel(replay_id)


@pytest.fixture
async def replays():
    held = Held()
    yield held
    await held.close()


def start(replays: Replays, by: str, most: int | None = None) -> str:
    started: str = replays.start(ReplayRequest(everything=True), PLANS, by=by, most=most)["replay_id"]
    return started


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  a task of the console's own has to run
            await asyncio.sleep(0)


async def test_an_identity_runs_one_and_leaves_others_theirs(replays: Held):
    first = start(replays, "ana")
    with pytest.raises(Busy, match="ana runs a replay already, which is its limit"):
        start(replays, "ana")
    start(replays, "ben")
    replays.cancel(first)
    await until(lambda: not replays._known[0].runs)  # noqa: SLF001
    start(replays, "ana")


async def test_a_limit_of_its_own_holds_and_zero_is_none(replays: Held):
    for _ in range(2):
        start(replays, "ana", 2)
    with pytest.raises(Busy, match="ana runs 2 replays already"):
        start(replays, "ana", 2)
    for _ in range(MOST_AT_ONCE - 2):
        start(replays, "ben", 0)
    with pytest.raises(Busy, match=f"{MOST_AT_ONCE} replays run already, which is this console's limit"):
        start(replays, "ben", 0)


async def test_a_replay_that_runs_is_never_forgotten(replays: Held):
    long = start(replays, "ana")
    for _ in range(KEPT + 3):
        short = start(replays, "ben")
        replays.cancel(short)
        await until(lambda: not replays._known[-1].runs)  # noqa: SLF001
    assert len(replays.values()) == KEPT
    assert long in [one["replay_id"] for one in replays.values()]


async def test_all_end_with_the_console():
    replays = Held()
    for name in ("ana", "ben"):
        start(replays, name)
    await replays.close()
    assert [one["state"] for one in replays.values()] == ["cancelled"] * 2
