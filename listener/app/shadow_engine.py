"""A shadow replay's engine: today's handler on single letters, in transactions that are rolled back.

It neither claims nor joins the group, so it may run beside listeners and replays, with a handler that is not deployed
yet. Effects are written as rows and rolled back, never sent. An event that another transaction holds is waited for. A
plain handler works outside of any transaction, and is refused.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal, Self

from unlost.dlq.record.event import edited_as, event_of
from unlost.dlq.record.letter import letter_for, said
from unlost.dlq.replay.shadow import ShadowOutcome, ShadowResult
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.wiring import connect_servers
from unlost.listener.core.attempts import Backoff, raised
from unlost.listener.core.cause import Reason
from unlost.listener.core.claim import Dead
from unlost.listener.core.effects import NO_EFFECTS, Effects
from unlost.listener.core.errors import (
    InvalidEvent,
    InvalidPayload,
    Misconfigured,
    Permanent,
    Transient,
    failure_of,
)
from unlost.listener.core.event import Event
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.handlers import FunctionHandler, Handler, HandlerRefused, attempt
from unlost.listener.ports.rows import HandlerConnection, NewRow, OtherRow, SameRow
from unlost.listener.routing.finding import find_handler
from unlost.listener.routing.handler import AppHandler
from unlost.listener.store.postgres.shadow import ShadowRows, Wrote

Stage = Literal["handle", "store"]
Work = Callable[[HandlerConnection], Awaitable[None]]
OF_EFFECT = "it is of an effect: its event is a row, and a shadow replay sends nothing"
PLAIN = "it works outside of the transaction of its row, so a shadow replay cannot undo it"


class HandlerShadow:
    """``ShadowRun`` with the handler of these settings."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._policy = settings.policy()
        self._handler: Handler | None = find_handler(settings.handler) if settings.handler else None
        if self._handler is not None and _is_plain(self._handler):
            raise Misconfigured(f"HANDLER={self._handler.name}: {PLAIN}")
        if isinstance(self._handler, AppHandler):
            self._handler.require_fast(fast=settings.fast == "on")
        self._servers = connect_servers(settings, f"{settings.instance_id}:{secrets.token_hex(4)}", revives=True)
        self._recorder = EffectRecorder(self._servers.effects, settings.effect_targets(), lambda _: None)
        assert self._servers.shadow is not None
        self._rows: ShadowRows = self._servers.shadow

    async def __aenter__(self) -> Self:
        """See ``ShadowRun``."""
        try:
            await self._servers.migrate()
            if self._handler is not None:
                await self._handler.open()
        except BaseException:
            await self._servers.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See ``ShadowRun``."""
        try:
            if self._handler is not None:
                await self._handler.close()
        finally:
            await self._servers.close()

    async def run(self, entry: LetterEntry) -> ShadowResult:
        """See ``ShadowRun``."""
        if entry.letter.effect is not None:
            return _result(
                entry, "cannot_be_tried", message="it is of an effect: its event is a row, and it is never sent here"
            )
        if entry.unreadable:
            return _result(entry, "cannot_be_tried", message=entry.unreadable)
        try:
            event = event_of(entry.letter, max_bytes=self._policy.max_event_bytes, edited=entry.edited)
        except InvalidEvent as error:
            return _result(entry, "fails_the_same", "InvalidEvent", str(error))
        flight = flight_of(event, event.frame, None, time.time(), time.monotonic())
        try:
            call = self._prepared(flight)
        except (Transient, Permanent) as error:
            return self._failed(entry, event, error)
        if call is None:
            return _result(entry, "cannot_be_tried", message=f"its route is plain: {PLAIN}")
        return await self._attempt(entry, flight, call)

    def _prepared(self, flight: InFlight) -> Work | None:
        """The work in the transaction, with the effects that it records; None for a plain route."""
        if self._handler is None or not self._handler.runs(flight.event.type):
            return _nothing
        form, call, arguments = self._handler.prepare(flight, 1)
        if form == "plain":
            return None
        if form == "store":
            return _nothing
        effects: Effects = getattr(arguments[0], "effects", NO_EFFECTS)

        async def work(connection: HandlerConnection) -> None:
            await call(*arguments, connection)
            if recorded := effects.taken():
                await self._recorder.record(connection, flight.event, recorded)

        return work

    async def _attempt(self, entry: LetterEntry, flight: InFlight, call: Work) -> ShadowResult:
        event = flight.event
        route = self._handler.policy_of(event) if self._handler is not None else None
        longest = self._policy.handle_timeout
        timeout = min(route.timeout, longest) if route is not None and route.timeout else longest
        of_handler: list[Transient | Permanent] = []

        async def work(connection: HandlerConnection) -> None:
            try:
                await attempt(call(connection), timeout=timeout, said={"event_id": event.event_id})
            except (Transient, Permanent) as error:
                permanent = route is not None and route.retry is not None and _is_permanent(route.retry, error)
                of_handler.append(HandlerRefused(error) if permanent and isinstance(error, Transient) else error)
                raise

        row = NewRow(event, 1, 1, flight.received_at, True, edited_as(entry.letter, entry.state.version))
        try:
            result = await self._rows.run(row, work)
        except (Transient, Permanent) as error:
            if not of_handler and isinstance(error, Transient):
                raise  # the servers, not the letter
            return self._failed(
                entry, event, of_handler[0] if of_handler else error, stage="handle" if of_handler else "store"
            )
        match result:
            case SameRow():
                return _result(entry, "stored_already")
            case OtherRow() | Dead():
                return _result(entry, "conflicts", message="a row of this id has other content")
            case _:
                return _result(entry, "succeeds", wrote=result)

    def _failed(
        self,
        entry: LetterEntry,
        event: Event,
        error: Transient | Permanent,
        *,
        stage: Literal["handle", "store"] = "handle",
    ) -> ShadowResult:
        """A failure, and whether a letter of it would have the fingerprint that this letter has."""
        failure = failure_of(error, stage=stage, at=time.time())
        reason: Reason = "exhausted" if isinstance(error, Transient) else "rejected"
        if isinstance(error, InvalidPayload):
            reason = "invalid"
        again = letter_for(
            event, letter_id="", reason=reason, stage=stage, attempts=[failure], at=failure.at, instance="", epoch=1,
            mode="normal", source=None,
        )  # fmt: skip
        same = again.fingerprint == entry.letter.fingerprint
        return _result(entry, "fails_the_same" if same else "fails_otherwise", again.error_type, again.message)


def _is_plain(handler: Handler) -> bool:
    if isinstance(handler, AppHandler):
        return all(route.form == "plain" for _, route in handler.placed) and (
            handler.otherwise is None or handler.otherwise.form == "plain"
        )
    return isinstance(handler, FunctionHandler) and handler.form == "plain"


def _is_permanent(retry: Backoff, error: Transient | Permanent) -> bool:
    return retry.kind_of(raised(error)) == "permanent"


async def _nothing(connection: HandlerConnection) -> None:
    """Only the row is stored."""


def _result(
    entry: LetterEntry, outcome: ShadowOutcome, error_type: str = "", message: str = "", wrote: Wrote | None = None
) -> ShadowResult:
    letter = entry.letter
    return ShadowResult(
        letter.letter_id, letter.event_id, entry.state.version, outcome, error_type, said(message) or "", wrote or {}
    )


def open_shadow(settings: ConnectionSettings) -> HandlerShadow:
    """Open the handler of a shadow replay."""
    return HandlerShadow(settings)
