"""The dead-letter file as the pipeline's sink for dead letters."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from unlost.dlq.record.coded import encoded
from unlost.dlq.record.file import DeadLetterFile, FileError, Located, read_letters, replay_guard
from unlost.dlq.record.letter import Letter, Mode, letter_for, letter_for_frame
from unlost.dlq.record.letter_state import OPEN, Record, later_than
from unlost.dlq.record.reopening import note_checked, reopen, resolved_since
from unlost.dlq.record.sidecar import Sidecar, last_checked, states
from unlost.listener.core.codec import EventCodec
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import Event
from unlost.listener.core.in_flight import InFlight
from unlost.listener.ports.dead_letters import Burial, Gone, StoreLoss
from unlost.listener.store.burials import burial_of, is_claimed, resolved_of

READ_AT_ONCE = 200


class FileDeadLetterSink:
    """Appends a batch of letters with one write and one fsync, off the event loop. Lists those that wait."""

    def __init__(
        self,
        file: DeadLetterFile,
        path: Path,
        *,
        instance: str,
        degraded: Callable[[], bool],
        handler: str | None = None,
        group: str | None = None,
        route_of: Callable[[Event], str | None] = lambda _: None,
        codec: Callable[[], EventCodec | None] = lambda: None,
    ) -> None:
        """``codec`` returns what encodes letters, if anything."""
        self._file = file
        self._path = path
        self._sidecar = Sidecar(path)
        self._instance = instance
        self._degraded = degraded
        self._handler = handler
        self._group = group
        self._route_of = route_of
        self._codec = codec

    async def bury(self, flights: Sequence[InFlight]) -> list[Burial]:
        """Write one letter for each event, durable on return."""
        letters = [self._encoded(flight) for flight in flights]
        try:
            await asyncio.to_thread(self._file.append, letters)
        except FileError as error:
            raise Transient(str(error)) from error
        return [
            Burial(flight.claim_id, flight.event.digest, one.letter_id, is_claimed(one), one.order_key, one.stops)
            for flight, one in zip(flights, letters, strict=True)
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

    async def reopened(self, loss: StoreLoss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """See ``Letters``. Not during a replay: it may mark as resolved what was stored before the loss."""
        guard = replay_guard(self._path)
        if not guard.take(f"listener {self._instance}, which looks for letters whose rows PostgreSQL lost"):
            raise Transient(f"{self._path} is being replayed or compacted by {guard.holder()}")
        letters = resolved_since(self._path, loss.since)
        try:
            while some := await asyncio.to_thread(lambda: list(islice(letters, READ_AT_ONCE))):
                burials = [one.burial for one in await gone([resolved_of(letter) for letter, _ in some])]
                lost = {one.letter_id for one in burials}
                again = [(one.letter_id, state) for one, state in some if one.letter_id in lost]
                await asyncio.to_thread(reopen, self._sidecar, again, self._instance)
                yield burials
            await asyncio.to_thread(note_checked, self._sidecar, loss.loss_id)
        except FileError as error:
            raise Transient(str(error)) from error
        finally:
            guard.release()

    def close(self) -> None:
        """Close the files."""
        self._sidecar.close()
        self._file.close()

    def _resolve(self, letter_ids: Sequence[str], why: str) -> list[str]:
        known, now = states(self._path), time.time()
        waiting = [one for one in letter_ids if known.get(one, OPEN).status != "resolved"]
        ends = [later_than(known.get(one, OPEN), now) for one in waiting]
        records = [Record(one, "resolved", at, why, by=self._instance) for one, at in zip(waiting, ends, strict=True)]
        self._sidecar.append(records)
        return waiting

    def _burials(self) -> Iterator[Burial]:
        known = states(self._path)
        for one in read_letters(self._path) if self._path.exists() else ():
            # An archived or quarantined letter prevents a row too: it is unresolved like one that waits.
            if isinstance(one, Located) and known.get(one.letter.letter_id, OPEN).status != "resolved":
                burial = burial_of(one.letter)
                if burial is not None:
                    yield burial

    def _encoded(self, flight: InFlight) -> Letter:
        letter, codec = self._letter(flight), self._codec()
        return letter if codec is None else encoded(letter, flight.event, codec)

    def _letter(self, flight: InFlight) -> Letter:
        cause = flight.cause
        assert cause is not None
        letter_id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
        event = flight.event
        mode: Mode = "degraded" if self._degraded() else "normal"
        if flight.is_no_event:
            return letter_for_frame(
                event.frame, letter_id=letter_id, message=flight.attempts[-1].message,
                event_id=event.event_id or None, at=flight.received_at, instance=self._instance,
                source=_source_of(flight), cursor=flight.cursor, whole=flight.whole, reason=cause.reason,
                handler=self._handler, group=self._group, mode=mode,
            )  # fmt: skip
        return letter_for(
            event, letter_id=letter_id, reason=cause.reason, stage=cause.stage, attempts=flight.attempts,
            at=time.time(), instance=self._instance, epoch=flight.epoch,
            mode=mode, source=_source_of(flight), handler=self._handler,
            group=self._group, cursor=flight.cursor, route=self._route_of(event), effect=flight.effect,
            order_key=flight.blocking_key, stops=flight.stops,
        )  # fmt: skip


def _source_of(flight: InFlight) -> str | None:
    """Return the source that sent an event; None if it comes from a letter."""
    return None if flight.position is None else flight.position.of.source
