"""The dead-letter file as the pipeline's graveyard."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence

from dlq.file import DeadLetterFile, FileTrouble
from dlq.letter import Letter, letter_for, letter_for_frame
from listener.errors import Transient
from listener.pipeline.passage import Passage


class FileGraveyard:
    """Appends letters in one write and one fsync a batch, off the event loop."""

    def __init__(self, file: DeadLetterFile, *, instance: str, source: str, degraded: Callable[[], bool]) -> None:
        self._file = file
        self._instance = instance
        self._source = source
        self._degraded = degraded

    async def bury(self, passages: Sequence[Passage]) -> None:
        """One letter each, durable on return."""
        letters = [self._letter(passage) for passage in passages]
        try:
            await asyncio.to_thread(self._file.append, letters)
        except FileTrouble as error:
            raise Transient(str(error)) from error

    def _letter(self, passage: Passage) -> Letter:
        doom = passage.doom
        assert doom is not None
        letter_id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
        event = passage.event
        if doom.reason == "invalid":
            return letter_for_frame(
                event.frame, letter_id=letter_id, message=passage.attempts[-1].message,
                event_id=event.event_id or None, at=passage.received_at, instance=self._instance,
                source=self._source, cursor=event.cursor,
            )  # fmt: skip
        return letter_for(
            event, letter_id=letter_id, reason=doom.reason, stage=doom.stage, attempts=passage.attempts,
            at=time.time(), instance=self._instance, epoch=passage.epoch,
            mode="degraded" if self._degraded() else "normal", source=self._source,
        )  # fmt: skip
