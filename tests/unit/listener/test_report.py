"""Reports to our own producer: which, and when."""

import asyncio
import json

from tests.support.cursors import FakeCursors
from tests.support.rows import AWAY
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.stream.report import CursorReporter


class Producer:
    """Accepts this many reports, then ends the connection."""

    def __init__(self, most: int) -> None:
        self.shown: list[str | None] = []
        self.most = most

    async def send(self, message: str) -> None:
        report = json.loads(message)
        assert (report["group"], report["database"]) == ("g", "0123abcd")
        if len(self.shown) == self.most:
            raise SourceEnded(Loss("gone"))
        self.shown.append(report["settled"])


async def reported(
    monkeypatch, cursors: FakeCursors, saved: list[str | None], most: int
) -> tuple[list[str | None], int]:
    """The reports, and how many times it waited for them."""
    waited = 0

    async def sleep(seconds: float) -> None:
        nonlocal waited
        assert seconds >= 1.0
        waited += 1

    monkeypatch.setattr(asyncio, "sleep", sleep)
    producer = Producer(most)
    reporter = CursorReporter(
        cursors, source="s", group="g", saved=lambda: saved.pop(0) if len(saved) > 1 else saved[0]
    )
    await reporter.run(producer)
    return producer.shown, waited


async def test_the_saved_cursor_is_reported_at_once_and_when_it_moved(monkeypatch) -> None:
    shown, _ = await reported(monkeypatch, FakeCursors("j-5"), [None, None, "j-7", "j-7", "j-9"], 3)
    assert shown == ["j-5", "j-7", "j-9"]


async def test_the_same_is_reported_again_now_and_then(monkeypatch) -> None:
    shown, waited = await reported(monkeypatch, FakeCursors(), ["j-7"], 3)
    assert (shown, waited) == (["j-7"] * 3, 30)


async def test_a_group_makes_itself_known_before_it_has_a_cursor(monkeypatch) -> None:
    cursors = FakeCursors("j-1", answers=[None])
    shown, _ = await reported(monkeypatch, cursors, [None], 2)
    assert shown == [None, "j-1"]


async def test_without_postgresql_nothing_is_reported(monkeypatch) -> None:
    shown, _ = await reported(monkeypatch, FakeCursors("j-2", answers=[AWAY, "j-1", AWAY]), [None], 2)
    assert shown == ["j-1", "j-2"]


async def test_each_connection_is_reported_anew(monkeypatch) -> None:
    for _ in range(2):
        assert (await reported(monkeypatch, FakeCursors(), ["j-7"], 1))[0] == ["j-7"]


async def test_after_postgresql_went_back_what_it_has_now_is_reported(monkeypatch) -> None:
    shown, _ = await reported(monkeypatch, FakeCursors("j-3"), ["j-9", None, None, "j-4"], 3)
    assert shown == ["j-9", "j-3", "j-4"]
