"""The described feeds of drills: a server, the profile that listeners read it by, and the record that it keeps."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unlost.ops.faults.drills.feed_record import PLAN, FeedAct, Judge, acknowledged, acts_in, moving
from unlost.ops.faults.drills.measure import StoredEvent
from unlost.ops.faults.drills.stage import StageError
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout
from unlost.ops.system.ports import LOOPBACK, free_port

PLAN_WITHIN = 60.0
LOOK_SECONDS = 0.05
MOVING = """
keep = { type = "drill" }
id = "event_id"
type = "type"
payload = "payload"
again = { type = "disconnect" }
"""
ACKNOWLEDGED = """
keep = { type = "events_api" }
id = "payload.event_id"
type = "payload.type"
payload = "payload.payload"
ack = '{"envelope_id":"{envelope_id}"}'
"""


@dataclass(frozen=True, slots=True)
class FeedKind:
    """A kind of feed: its module, its profile without the address, and how its record is judged."""

    module: str
    profile: str
    judge: Judge


KINDS: Mapping[str, FeedKind] = {
    "planned": FeedKind("planned_feed", MOVING, moving),
    "acknowledged": FeedKind("acknowledged_feed", ACKNOWLEDGED, acknowledged),
}


class DescribedFeed:
    """A feed that runs."""

    def __init__(self, kind: FeedKind, child: Child, record: Path) -> None:
        self._kind = kind
        self._child = child
        self._record = record

    async def end_connections(self) -> None:
        """Let the feed end connections by its plan, and return when it has."""
        assert self._child.pid is not None
        os.kill(self._child.pid, signal.SIGUSR1)
        deadline = time.monotonic() + PLAN_WITHIN
        while len(ended := [act for act in acts_in(self._record) if act.kind == "ended"]) < len(PLAN):
            if time.monotonic() > deadline or not self._child.is_running:
                raise StageError(f"the feed ended {len(ended)} of {len(PLAN)} connections within {PLAN_WITHIN:g} s")
            await asyncio.sleep(LOOK_SECONDS)

    def acts(self) -> list[FeedAct]:
        """The acts recorded until now."""
        return acts_in(self._record)

    def problems(self, rows: Collection[StoredEvent], letters: Collection[str]) -> list[str]:
        """Compare what the feed recorded with all rows and letters."""
        return list(self._kind.judge(self.acts(), rows, letters))


@contextmanager
def described(data: Path, layout: Layout, kind: str) -> Iterator[DescribedFeed | None]:
    """If the drill needs it, run a feed that forwards the producer's stream, and make the listeners read it."""
    if not kind:
        yield None
        return
    port, profile, record = free_port(), data / "drill-feed.toml", data / "feed-record"
    profile.write_text(f'url = "ws://{LOOPBACK}:{port}/"' + KINDS[kind].profile)
    layout.extra["source"] = str(profile)
    command = [sys.executable, "-m", f"unlost.ops.faults.drills.{KINDS[kind].module}"]
    child = Child("feed", [*command, layout.stream_url, str(port), str(record)], log=data / "logs" / "feed.log")
    child.start()
    try:
        yield DescribedFeed(KINDS[kind], child, record)
    finally:
        child.kill()
