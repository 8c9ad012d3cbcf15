"""The dead-letter file as the pipeline's sink for dead letters."""

import asyncio
import hashlib
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from unlost.dlq.record.event import event_of
from unlost.dlq.record.file import DeadLetterFile, FileError, Located, read_letters, replay_guard
from unlost.dlq.record.letter import Letter, letter_for, letter_for_frame
from unlost.dlq.record.reopening import note_checked, reopen, resolved_since
from unlost.dlq.record.sidecar import OPEN, Record, Sidecar, last_checked, states
from unlost.listener.core.cause import UNCLAIMED
from unlost.listener.core.errors import InvalidEvent, Transient
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight, conflict_claim, invalid_claim
from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.dead_letters import Burial, Gone, Loss, Resolved, StoppedLetter

READ_AT_ONCE = 200
HEAL_AT_ONCE = 100
LOCKED_SECONDS = 1.0


class FileDeadLetterSink:
    """Appends a batch of letters with one write and one fsync, off the event loop. Knows which of them wait."""

    def __init__(
        self,
        file: DeadLetterFile,
        path: Path,
        *,
        instance: str,
        source: str,
        degraded: Callable[[], bool],
        handler: str | None = None,
        group: str | None = None,
    ) -> None:
        self._file = file
        self._path = path
        self._sidecar = Sidecar(path)
        self._instance = instance
        self._source = source
        self._degraded = degraded
        self._handler = handler
        self._group = group

    async def bury(self, flights: Sequence[InFlight]) -> list[Burial]:
        """Write one letter for each event, durable on return."""
        letters = [self._letter(flight) for flight in flights]
        try:
            await asyncio.to_thread(self._file.append, letters)
        except FileError as error:
            raise Transient(str(error)) from error
        return [
            Burial(flight.claim_id, flight.event.digest, letter.letter_id, letter.reason not in UNCLAIMED)
            for flight, letter in zip(flights, letters, strict=True)
        ]

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """Yield every letter that is not resolved."""
        burials = self._burials()
        try:
            while some := await asyncio.to_thread(lambda: list(islice(burials, READ_AT_ONCE))):
                yield some
        except FileError as error:
            raise Transient(str(error)) from error

    async def resolve(self, letter_ids: Sequence[str], why: str) -> list[str]:
        """Record this next to the letters, durably. A letter that a replay resolved meanwhile is left as it is."""
        try:
            return await asyncio.to_thread(self._resolve, letter_ids, why)
        except FileError as error:
            raise Transient(str(error)) from error

    async def checked(self) -> str:
        """Return the loss after which the resolved letters were last checked."""
        try:
            return await asyncio.to_thread(last_checked, self._path)
        except FileError as error:
            raise Transient(str(error)) from error

    async def reopened(self, loss: Loss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """See ``Letters``. Not during a replay: it may mark as resolved what was stored before the loss."""
        guard = replay_guard(self._path)
        if not guard.take(f"listener {self._instance}, which looks for letters whose rows PostgreSQL lost"):
            raise Transient(f"{self._path} is being replayed or compacted by {guard.holder()}")
        letters = resolved_since(self._path, loss.since)
        try:
            while some := await asyncio.to_thread(lambda: list(islice(letters, READ_AT_ONCE))):
                burials = [one.burial for one in await gone([_resolved(letter) for letter in some])]
                await asyncio.to_thread(reopen, self._sidecar, [one.letter_id for one in burials])
                yield burials
            await asyncio.to_thread(note_checked, self._sidecar, loss.loss_id)
        except FileError as error:
            raise Transient(str(error)) from error
        finally:
            guard.release()

    async def stopped(self) -> AsyncGenerator[Sequence[StoppedLetter], None]:
        """Yield what an earlier start left when it was stopped. Replays and compaction are locked out meanwhile."""
        letters = self._located()
        guard = replay_guard(self._path)
        try:
            while some := await asyncio.to_thread(lambda: list(islice(letters, HEAL_AT_ONCE))):
                about = f"listener {self._instance}, which settles what it was stopped with"
                while not guard.take(about):  # noqa: ASYNC110  a free lock is not signalled
                    await asyncio.sleep(LOCKED_SECONDS)
                try:
                    if waiting := await asyncio.to_thread(self._waiting, some):
                        yield waiting
                finally:
                    guard.release()
        except FileError as error:
            raise Transient(str(error)) from error

    def close(self) -> None:
        """Close the files."""
        self._sidecar.close()
        self._file.close()

    def _resolve(self, letter_ids: Sequence[str], why: str) -> list[str]:
        known, now = states(self._path), time.time()
        waiting = [one for one in letter_ids if known.get(one, OPEN).status != "resolved"]
        self._sidecar.append([Record(one, "resolved", now, why) for one in waiting])
        return waiting

    def _located(self) -> Iterator[Letter]:
        for one in read_letters(self._path) if self._path.exists() else ():
            if isinstance(one, Located) and one.letter.reason == "stopped":
                yield one.letter

    def _waiting(self, letters: Sequence[Letter]) -> list[StoppedLetter]:
        known = states(self._path)
        return [kept_of(one) for one in letters if known.get(one.letter_id, OPEN).waits]

    def _burials(self) -> Iterator[Burial]:
        known = states(self._path)
        for one in read_letters(self._path) if self._path.exists() else ():
            # An archived or quarantined letter forbids a row too: it is as unresolved as one that waits.
            if isinstance(one, Located) and known.get(one.letter.letter_id, OPEN).status != "resolved":
                burial = burial_of(one.letter)
                if burial is not None:
                    yield burial

    def _letter(self, flight: InFlight) -> Letter:
        cause = flight.cause
        assert cause is not None
        letter_id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
        event = flight.event
        if flight.is_no_event:
            return letter_for_frame(
                event.frame, letter_id=letter_id, message=flight.attempts[-1].message,
                event_id=event.event_id or None, at=flight.received_at, instance=self._instance,
                source=self._source, cursor=event.cursor, whole=flight.whole, reason=cause.reason,
                handler=self._handler, group=self._group,
            )  # fmt: skip
        return letter_for(
            event, letter_id=letter_id, reason=cause.reason, stage=cause.stage, attempts=flight.attempts,
            at=time.time(), instance=self._instance, epoch=flight.epoch,
            mode="degraded" if self._degraded() else "normal", source=self._source, handler=self._handler,
            group=self._group,
        )  # fmt: skip


def _resolved(letter: Letter) -> Resolved:
    """Return the claim of a resolved letter's event, by the rules of a replay."""
    try:
        event = event_of(letter, max_bytes=sys.maxsize)
    except InvalidEvent:
        request = invalid_claim(digest_of(letter))
        return Resolved(Burial(request.event_id, request.digest, letter.letter_id, claimed=False), "")
    claimed = letter.reason not in UNCLAIMED
    burial = burial_of(letter) or Burial(event.event_id, event.digest, letter.letter_id, claimed)
    return Resolved(burial, event.event_id)


def kept_of(letter: Letter) -> StoppedLetter:
    """Return the part of a letter that is offered again."""
    frame: bytes | Oversized = letter.event or letter.raw or b""
    if letter.raw_length is not None:
        frame = Oversized(letter.raw_length, digest_of(letter), letter.raw or b"")
    return StoppedLetter(letter.letter_id, frame)


def digest_of(letter: Letter) -> bytes:
    """Return the SHA-256 of an invalid frame, even if only its beginning was kept."""
    if letter.raw_sha256 is not None:
        return bytes.fromhex(letter.raw_sha256)
    return hashlib.sha256(letter.raw or b"").digest()


def burial_of(letter: Letter) -> Burial | None:
    """Return the claim of a letter's event; None if today's rules cannot read the event."""
    if letter.event is None:
        request = invalid_claim(digest_of(letter))
        return Burial(request.event_id, request.digest, letter.letter_id, letter.reason not in UNCLAIMED)
    try:
        event = parse(letter.event or b"", max_bytes=sys.maxsize)
    except InvalidEvent:
        return None
    claim_id = conflict_claim(event).event_id if letter.reason == "conflict" else event.event_id
    return Burial(claim_id, event.digest, letter.letter_id, letter.reason not in UNCLAIMED)
