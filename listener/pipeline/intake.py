"""The intake: what a listener holds in memory, bounded by count and bytes, and each event's one entry and one exit.

An event that is in memory already is not claimed a second time: its copy follows the first and ends
when that ends. What is no valid event enters too, doomed, under a name made of its bytes.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from listener.claims.port import Ask
from listener.errors import InvalidEvent, Transient, failure_of
from listener.event import Event, parse
from listener.facts import EventsDuplicate, Facts, FramesReceived
from listener.pipeline.passage import DUPLICATE, Doom, End, Passage, Stored, invalid_claim
from listener.pipeline.policy import Policy
from listener.pipeline.turns import Turns
from listener.together import plain_events
from listener.watermark import Position, Watermark

FEW = 3
"""So many frames are read one by one, which for them is faster than together."""
ENTRY_BYTES = 600
"""What holding one event costs beside its own bytes, roughly."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: ``now`` tells the time of day, ``monotonic`` measures."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


class Intake:
    """Admits events and lets them go."""

    def __init__(self, *, policy: Policy, claiming: Turns, clocks: Clocks, facts: Facts) -> None:
        self.watermark = Watermark()
        self._policy = policy
        self._claiming = claiming
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
        events = plain_events(frames, max_bytes=self._policy.max_event_bytes) if len(frames) > FEW else None
        if events is not None:
            return self._enter_all(events, size)
        cursor: str | None = None
        for frame in frames:
            try:
                event = parse(frame, max_bytes=self._policy.max_event_bytes)
            except InvalidEvent as error:
                self._enter(self._doomed(frame, error))
                continue
            self._enter(self.passage(event, self._position(event.cursor)))
            if event.cursor is not None:
                cursor = event.cursor
        return cursor

    def passage(self, event: Event, position: Position | None) -> Passage:
        """A new passage for a valid event."""
        ask = Ask(event.event_id, event.digest)
        return Passage(event, ask, position, self._clocks.now(), self._clocks.monotonic())

    def overflow(self, frame: bytes) -> Passage:
        """Take a frame for which there is no room, only to be buried; it is claimed by nobody."""
        try:
            event = parse(frame, max_bytes=self._policy.max_event_bytes)
        except InvalidEvent as error:
            passage = self._doomed(frame, error)
        else:
            passage = self.passage(event, self._position(event.cursor))
        self._count += 1
        self._bytes += passage.event.size + ENTRY_BYTES
        error_now = Transient("PostgreSQL was away, memory was full, and the source cannot resume")
        passage.attempts.append(failure_of(error_now, stage="receive", at=passage.received_at))
        return passage

    def offer(self, passage: Passage) -> None:
        """Admit an event that does not come from the source."""
        self._enter(passage)

    def _position(self, cursor: str | None) -> Position:
        (position,) = self.watermark.open((cursor,))
        return position

    def _doomed(self, frame: bytes, error: InvalidEvent) -> Passage:
        digest = hashlib.sha256(frame).digest()
        event = Event(error.event_id or "", None, b"", None, digest, None, frame)
        position = self._position(None)
        passage = Passage(event, invalid_claim(digest), position, self._clocks.now(), self._clocks.monotonic())
        passage.doom = Doom("invalid", "receive")
        passage.attempts.append(failure_of(error, stage="receive", at=passage.received_at))
        return passage

    def _enter(self, passage: Passage) -> None:
        self._count += 1
        self._bytes += passage.event.size + ENTRY_BYTES
        if self._comes_first(passage):
            self._claiming.put_all((passage,))

    def _enter_all(self, events: Sequence[Event], size: int) -> str | None:
        """The same for many events of the source, of ``size`` bytes together; the last cursor."""
        self._count += len(events)
        self._bytes += size + ENTRY_BYTES * len(events)
        at, clock = self._clocks.now(), self._clocks.monotonic()
        cursors = [event.cursor for event in events]
        passages = [
            Passage(event, Ask(event.event_id, event.digest), position, at, clock)
            for event, position in zip(events, self.watermark.open(cursors), strict=True)
        ]
        self._claiming.put_all(list(filter(self._comes_first, passages)))
        return next((cursor for cursor in reversed(cursors) if cursor is not None), None)

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
        self.watermark.settle([position for position in exited if position is not None])
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
