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
        self._received += len(frames)
        cursor: str | None = None
        at, clock = self._clocks.now(), self._clocks.monotonic()
        for frame in frames:
            self._received_bytes += len(frame)
            try:
                event = parse(frame, max_bytes=self._policy.max_event_bytes)
            except InvalidEvent as error:
                self._enter(self._doomed(frame, error))
                continue
            ask = Ask(event.event_id, event.digest)
            self._enter(Passage(event, ask, self.watermark.open(event.cursor), at=at, clock=clock))
            if event.cursor is not None:
                cursor = event.cursor
        return cursor

    def passage(self, event: Event, position: Position | None) -> Passage:
        """A new passage for a valid event."""
        ask = Ask(event.event_id, event.digest)
        return Passage(event, ask, position, at=self._clocks.now(), clock=self._clocks.monotonic())

    def overflow(self, frame: bytes) -> Passage:
        """Take a frame for which there is no room, only to be buried; it is claimed by nobody."""
        try:
            event = parse(frame, max_bytes=self._policy.max_event_bytes)
        except InvalidEvent as error:
            passage = self._doomed(frame, error)
        else:
            passage = self.passage(event, self.watermark.open(event.cursor))
        self._count += 1
        self._bytes += passage.event.size + ENTRY_BYTES
        error_now = Transient("PostgreSQL was away, memory was full, and the source cannot resume")
        passage.attempts.append(failure_of(error_now, stage="receive", at=passage.received_at))
        return passage

    def offer(self, passage: Passage) -> None:
        """Admit an event that does not come from the source."""
        self._enter(passage)

    def _doomed(self, frame: bytes, error: InvalidEvent) -> Passage:
        digest = hashlib.sha256(frame).digest()
        event = Event(error.event_id or "", None, b"", None, digest, None, frame)
        position = self.watermark.open(None)
        passage = Passage(event, invalid_claim(digest), position, at=self._clocks.now(), clock=self._clocks.monotonic())
        passage.doom = Doom("invalid", "receive")
        passage.attempts.append(failure_of(error, stage="receive", at=passage.received_at))
        return passage

    def _enter(self, passage: Passage) -> None:
        self._count += 1
        self._bytes += passage.event.size + ENTRY_BYTES
        first = self._inside.setdefault(passage.claim_id, passage)
        if first is passage:
            self._claiming.put(passage)
        elif first.followers is None:
            first.followers = [passage]
        else:
            first.followers.append(passage)

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

    def finish(self, passage: Passage, end: End) -> None:
        """The one way out: settle the position, make room, and end or restart what followed."""
        self._take_out(passage)
        self._exit(passage, end)
        if passage.followers:
            self._finish_followers(passage, end)
        self._room.set()
        if not self._count:
            self._emptied.set()

    def _finish_followers(self, passage: Passage, end: End) -> None:
        followers, passage.followers = passage.followers, None
        for follower in followers or ():
            if follower.ask.digest == passage.ask.digest:
                self._exit(follower, DUPLICATE if isinstance(end, Stored) else end)
                self._facts(EventsDuplicate((follower.event.event_id,)))
            else:
                self._leave_count(follower)
                self._enter(follower)

    def forget(self, passage: Passage) -> None:
        """Let go of an unsettled event in an orderly stop; its position stays open, so it is read again."""
        self._take_out(passage)
        self._leave_count(passage)
        if not self._count:
            self._emptied.set()

    def _take_out(self, passage: Passage) -> None:
        if self._inside.get(passage.claim_id) is passage:
            del self._inside[passage.claim_id]

    def _exit(self, passage: Passage, end: End) -> None:
        self._leave_count(passage)
        passage.end = end
        if passage.position is not None:
            self.watermark.settle(passage.position)
        if passage.on_end is not None:
            passage.on_end(passage)

    def _leave_count(self, passage: Passage) -> None:
        self._count -= 1
        self._bytes -= passage.event.size + ENTRY_BYTES
