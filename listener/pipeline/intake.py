"""The intake: what a listener holds in memory, bounded by count and bytes, and each event's one entry and one exit.

An event that is in memory already is not claimed a second time: its copy follows the first and ends
when that ends. What is no valid event enters too, doomed, under a name made of its bytes.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from listener.claims.port import Ask
from listener.errors import Transient, failure_of
from listener.event import Event
from listener.facts import EventsDuplicate, Facts, FramesReceived
from listener.pipeline.frames import passage_of, read_frames
from listener.pipeline.passage import DUPLICATE, End, Glance, Passage, Stored
from listener.pipeline.policy import Policy
from listener.pipeline.turns import Turns
from listener.together import nobodys
from listener.watermark import Position, Watermark

ENTRY_BYTES = 600
"""What holding one event costs beside its own bytes, roughly."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: ``now`` tells the time of day, ``monotonic`` measures."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


class Intake:
    """Admits events and lets them go."""

    def __init__(self, *, policy: Policy, turns: Turns, clocks: Clocks, facts: Facts) -> None:
        self.watermark = Watermark()
        self._policy = policy
        self._turns = turns
        self._clocks = clocks
        self._facts = facts
        self._inside: dict[str, Passage] = {}
        self._count = 0
        self._bytes = 0
        self._received = 0
        self._received_bytes = 0
        self._room = asyncio.Event()
        self._emptied = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no further event may be read."""
        return self._count >= self._policy.max_events or self._bytes >= self._policy.max_bytes

    @property
    def room(self) -> tuple[int, int]:
        """How many further events may be read, and of how many bytes; where it is full, none."""
        return self._policy.max_events - self._count, self._policy.max_bytes - self._bytes

    @property
    def count(self) -> int:
        """How many events are in memory."""
        return self._count

    @property
    def size(self) -> int:
        """How many bytes they are reckoned at."""
        return self._bytes

    def find(self, event_id: str) -> Passage | None:
        """The event with this id, if it is in memory."""
        return self._inside.get(event_id)

    def inside(self) -> list[Passage]:
        """All that is in memory now, copies left out."""
        return list(self._inside.values())

    async def wait_for_room(self, *, spare: int = 0) -> None:
        """Return when a further event may be read, or ``spare`` beyond what usually may."""
        while self._count >= self._policy.max_events + spare or (not spare and self.full):
            self._room.clear()
            await self._room.wait()

    async def wait_until_empty(self) -> None:
        """Return when nothing is in memory."""
        while self._count:
            self._emptied.clear()
            await self._emptied.wait()

    def receive(self, frames: Sequence[bytes]) -> str | None:
        """Admit frames of the source, in their order; the last cursor that they told."""
        size = sum(map(len, frames))
        self._received += len(frames)
        self._received_bytes += size
        self._count += len(frames)
        self._bytes += size + ENTRY_BYTES * len(frames)
        found, cursors = read_frames(frames, max_bytes=self._policy.max_event_bytes, glimpse=self._turns.wait)
        at, clock = self._clocks.now(), self._clocks.monotonic()
        passages: list[Passage] = []
        glances: list[Glance] = []
        for frame, what, position in zip(frames, found, self.watermark.open(cursors), strict=True):
            if isinstance(what, tuple):
                glances.append(Glance(Ask(*what), frame, position, at, clock))
            else:
                passages.append(passage_of(what, frame, position, at, clock))
        self._turns.put_all(list(filter(self._comes_first, passages)))
        if glances:
            self._turns.put_later(glances)
        return next((cursor for cursor in reversed(cursors) if cursor is not None), None)

    def read(self, glances: Sequence[Glance]) -> None:
        """What peers did not settle is read, and from here on a passage like all others."""
        frames = [glance.frame for glance in glances]
        found, _ = read_frames(frames, max_bytes=self._policy.max_event_bytes, glimpse=nobodys)
        passages = [
            passage_of(what, one.frame, one.position, one.received_at, one.received_clock)
            for what, one in zip(found, glances, strict=True)
            if not isinstance(what, tuple)
        ]
        self._turns.put_left(list(filter(self._comes_first, passages)))

    def end_unread(self, glances: Sequence[Glance]) -> None:
        """What peers settled ends as a duplicate."""
        self._count -= len(glances)
        self._bytes -= sum([len(glance.frame) for glance in glances]) + ENTRY_BYTES * len(glances)
        self._settle([glance.position for glance in glances])
        self._facts(EventsDuplicate([glance.ask.event_id for glance in glances]))

    def overflow(self, frame: bytes) -> Passage:
        """Take a frame for which there is no room, only to be buried; it is claimed by nobody."""
        (what,), cursors = read_frames((frame,), max_bytes=self._policy.max_event_bytes, glimpse=nobodys)
        assert not isinstance(what, tuple)
        (position,) = self.watermark.open(cursors)
        passage = passage_of(what, frame, position, self._clocks.now(), self._clocks.monotonic())
        self._count += 1
        self._bytes += passage.event.size + ENTRY_BYTES
        error_now = Transient("PostgreSQL was away, memory was full, and the source cannot resume")
        passage.attempts.append(failure_of(error_now, stage="receive", at=passage.received_at))
        return passage

    def offer(self, event: Event, on_end: Callable[[Passage], None]) -> None:
        """Admit an event that does not come from the source, but from the dead: it is revived."""
        passage = passage_of(event, event.frame, None, self._clocks.now(), self._clocks.monotonic())
        passage.revive = True
        passage.on_end = on_end
        self._enter(passage)

    def _enter(self, passage: Passage) -> None:
        self._count += 1
        self._bytes += passage.event.size + ENTRY_BYTES
        if self._comes_first(passage):
            self._turns.put_all((passage,))

    def _comes_first(self, passage: Passage) -> bool:
        """Whether this is the first of its name in memory; else it follows that."""
        first = self._inside.setdefault(passage.ask.event_id, passage)
        if first is passage:
            return True
        if first.followers is None:
            first.followers = []
        first.followers.append(passage)
        return False

    def rename(self, passage: Passage, ask: Ask) -> None:
        """Let an event go on under another claim; copies that followed it start anew."""
        self._take_out(passage)
        followers, passage.followers = passage.followers, None
        passage.ask = ask
        self._leave_count(passage)
        self._enter(passage)
        for follower in followers or ():
            self._leave_count(follower)
            self._enter(follower)

    def tell_received(self) -> None:
        """State what came in since this was last asked."""
        if self._received:
            self._facts(FramesReceived(self._received, self._received_bytes))
            self._received = self._received_bytes = 0

    def finish(self, ended: Sequence[tuple[Passage, End]]) -> None:
        """The one way out: settle the positions, make room, and end or restart what followed."""
        exited = []
        for passage, end in ended:
            self._take_out(passage)
            exited.append(self._exit(passage, end))
            if passage.followers:
                exited += self._finish_followers(passage, end)
        self._settle([position for position in exited if position is not None])

    def _settle(self, positions: Sequence[Position]) -> None:
        self.watermark.settle(positions)
        self._room.set()
        if not self._count:
            self._emptied.set()

    def _finish_followers(self, passage: Passage, end: End) -> list[Position | None]:
        followers, passage.followers = passage.followers, None
        exited = []
        for follower in followers or ():
            if follower.ask.digest == passage.ask.digest:
                exited.append(self._exit(follower, DUPLICATE if isinstance(end, Stored) else end))
                self._facts(EventsDuplicate((follower.event.event_id,)))
            else:
                self._leave_count(follower)
                self._enter(follower)
        return exited

    def forget(self, passage: Passage) -> None:
        """Let go of an unsettled event in an orderly stop; its position stays open, so it is read again."""
        self._take_out(passage)
        self._leave_count(passage)
        if not self._count:
            self._emptied.set()

    def _take_out(self, passage: Passage) -> None:
        if self._inside.get(passage.ask.event_id) is passage:
            del self._inside[passage.ask.event_id]

    def _exit(self, passage: Passage, end: End) -> Position | None:
        """Where it stood in its source."""
        self._leave_count(passage)
        passage.end = end
        if passage.on_end is not None:
            passage.on_end(passage)
        return passage.position

    def _leave_count(self, passage: Passage) -> None:
        self._count -= 1
        self._bytes -= len(passage.event.frame) + ENTRY_BYTES
