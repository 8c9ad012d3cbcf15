"""Runs one drill from beginning to end: stream, damage, healing, settling, replay, records, verdict."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from unlost.ops.faults.drills import records as drill_records
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.marks import Marks, marks
from unlost.ops.faults.drills.measure import (
    Moments,
    Run,
    StoredEvent,
    extra_runs,
    felt,
    in_flight_pause,
    p99,
    progress_from_damage,
    progress_from_heal,
    recovery,
    taken_over,
)
from unlost.ops.faults.drills.order import disordered
from unlost.ops.faults.drills.records import Records
from unlost.ops.faults.drills.stage import Stage, StageError
from unlost.ops.faults.drills.traffic import Traffic
from unlost.ops.faults.drills.verdict import Observed
from unlost.ops.faults.drills.watching import Watcher
from unlost.ops.system.child import ChildFailed

PUBLISHED_WITHIN = 180.0
ANSWERED_WITHIN = 30.0
CALM = 10.0
"""Seconds that an open-ended stream continues after healing."""
SETTLED_WITHIN = 90.0
"""Seconds without any change before events count as stuck. Reading a stream again after an outage takes long."""
LETTERS_SURE_WITHIN = 45.0
"""Seconds that a listener may take to resolve a letter of its own that is not needed: its second check, and more."""
WARMED_UP = 2.0
"""Seconds after which a stream counts for the p99 before the damage: connections are open by then."""
LOOK_EVERY = 0.25
REVIVE_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Phase:
    """The state of a drill, for display."""

    what: str = ""
    published: int = 0
    rows: int = 0
    letters: int = 0
    note: str = ""
    """An additional message, shown once."""


Say = Callable[[Phase], None]


class Runner:
    """Runs one drill on a stage that is up."""

    def __init__(self, drill: Drill, stage: Stage, stream: Traffic, say: Say, hold: float) -> None:
        self._drill = drill
        self._stage = stage
        self._stream = stream
        self._say = say
        self._hold = hold
        self._watcher = Watcher(stream, stage.producer_url, stage.listener_urls, stage.count, stage.headers)
        self._errors: list[str] = []

    async def run(self) -> Observed:
        """Run the drill and return what was observed."""
        await self._stage.prepare()
        reviving = asyncio.create_task(self._revive(), name="revive") if self._drill.revives else None
        showing = asyncio.create_task(self._show(), name="show")
        with self._watcher:
            try:
                async with marks(self._drill.name, self._stage.console) as left:
                    moments = await self._hurt(left)
                    before = await self._until_settled()
                    normal = await self._until_normal(before.rows, moments)
                await self._let_look()
            finally:
                showing.cancel()
                if reviving:
                    reviving.cancel()
        if left.failure:
            self._say(Phase(note=left.failure))
        self._phase("replay" if before.letters else "audit", len(before.rows))
        runs = [run for run in await self._stage.runs() if run.event_id.startswith(self._stream.prefix)]
        if strange := sum(run.kind == "strange" for run in runs):
            self._errors.append(f"{strange} events were handled by another handler than the group's")
        if before.letters:
            self._errors += await self._stage.replay()
        if self._drill.keys:
            self._errors += await self._disorder()
        after = await drill_records.read(self._stage, self._stream.prefix)
        self._errors += await self._stage.audit()
        self._note_watcher()
        return self._observed(before, after, runs, moments, normal)

    async def _disorder(self) -> list[str]:
        """Check the order of each key, with the runs of the replay."""
        runs = [one for one in await self._stage.runs() if one.event_id.startswith(self._stream.prefix)]
        places = self._stream.places({one.event_id for one in runs})
        wrong = disordered([(one.at, one.event_id) for one in runs], places)
        return [f"{len(wrong)} events ran out of the order of their keys: {wrong[0]}"] if wrong else []

    async def _hurt(self, left: Marks) -> Moments:
        drill, stage = self._drill, self._stage
        self._phase("publishing")
        await self._watcher.until_published(round(self._stream.events * self._drill.begins_after))
        await left.put("damaged")
        began = time.time()
        self._phase("damage")
        try:
            await drill.damage(stage)
            struck = time.time() if drill.progress_from == "damage" else began
            await self._endure()
        finally:
            self._phase("healing")
            heal_began = time.time()
            await drill.heal(stage)
        healed = time.time()
        await left.put("running")
        return Moments(struck, heal_began, healed)

    async def _endure(self) -> None:
        """Let the damage last: one round of ``during``, and more until --hold has passed."""
        until = time.monotonic() + self._hold
        await self._drill.during(self._stage)
        while time.monotonic() < until:
            await self._drill.during(self._stage)

    async def _let_look(self) -> None:
        """Keep the aftermath unchanged for --hold seconds, so that people can look at it."""
        if self._hold:
            self._phase("aftermath")
            await asyncio.sleep(self._hold)

    async def _until_settled(self) -> Records:
        """Return the records once each accepted event has one row or letter and no listener holds any, or all is stuck.

        A listener that wrote a letter checks whether it is needed, and again when nothing can be in flight any more.
        """
        self._phase("settling")
        await self._until_published()
        seen = self._watcher.seen
        began = time.monotonic()
        sure = math.inf
        while True:
            held = sum(seen.in_memory.values())
            is_last = bool(seen.failure) or time.monotonic() > max(began, seen.moved_at) + SETTLED_WITHIN
            if not held or is_last:
                records = await drill_records.read(self._stage, self._stream.prefix)
                if is_last and held and not seen.failure:
                    self._errors.append(
                        f"{held} events were still in memory after nothing had moved for {SETTLED_WITHIN:g} s; "
                        "what was under way then may be counted as lost or doubled"
                    )
                if not records.lost(seen.published.accepted):
                    sure = min(sure, time.monotonic() + LETTERS_SURE_WITHIN)
                    heals = self._drill.foreign and bool(records.letters)
                    is_last = is_last or not (heals or records.doubled()) or time.monotonic() > sure
                if is_last:
                    return records
            await asyncio.sleep(LOOK_EVERY)

    async def _until_published(self) -> None:
        """Wait for the end of the stream, or end it: nothing may be published during the audit."""
        ended_early = self._stream.until_healed
        if await self._watcher.until_all_published(CALM if ended_early else PUBLISHED_WITHIN):
            return
        answered = await self._watcher.end_stream(ANSWERED_WITHIN)
        if not ended_early:
            self._errors.append(f"not all events were published within {PUBLISHED_WITHIN:g} s")
        if not answered:
            self._errors.append(f"not all events were answered within {ANSWERED_WITHIN:g} s")

    async def _until_normal(self, rows: list[StoredEvent], moments: Moments) -> float | None:
        """Return the seconds to recovery, once all events are settled; None if there was no recovery in time."""
        seen = self._watcher.seen
        deadline = time.monotonic() + SETTLED_WITHIN
        while True:
            seconds = recovery(rows, list(seen.samples), seen.published.accepted, moments)
            if seconds is not None or seen.failure:
                return seconds
            if time.monotonic() > deadline:
                self._errors.append(f"some listener was not back to normal after {SETTLED_WITHIN:g} s")
                return None
            await asyncio.sleep(LOOK_EVERY)

    def _observed(
        self, before: Records, after: Records, runs: list[Run], moments: Moments, normal: float | None
    ) -> Observed:
        drill, seen = self._drill, self._watcher.seen
        accepted = seen.published.accepted
        takes_over = drill.bars.takeover is not None
        over = taken_over(before.rows, moments) if takes_over else None
        begun = seen.published.begun
        warm = min(begun.values(), default=0.0) + WARMED_UP
        compares = drill.bars.slower is not None
        progress = progress_from_damage if drill.progress_from == "damage" else progress_from_heal
        return Observed(
            drill=drill.name,
            published=len(accepted),
            rows=len(after.rows),
            lost=len(set(before.lost(accepted)) | set(after.lost(accepted))),
            doubled=len({*before.doubled(), *after.doubled()}),
            letters=len(before.letters),
            letters_after_replay=len(after.letters),
            extra_handler_runs=extra_runs(runs),
            seconds_to_progress=progress(before.rows, moments),
            seconds_to_recover=over if takes_over else normal,
            seconds_in_flight=in_flight_pause(before.rows, runs, moments),
            seconds_to_take_over=over,
            seconds_p99_before=p99(before.rows, begun, warm, moments.struck) if compares else None,
            seconds_p99_during=p99(before.rows, begun, moments.struck, moments.healed) if compares else None,
            upgraded_from=self._stage.upgraded_from,
            felt=felt(seen.samples, moments),
            lease=self._stage.lease,
            errors=tuple(self._errors),
        )

    def _note_watcher(self) -> None:
        seen = self._watcher.seen
        if seen.failure:
            self._errors.append(seen.failure)
        if seen.published.refused:
            self._errors.append(f"the producer refused {len(seen.published.refused)}: {seen.published.refused[0]}")

    async def _revive(self) -> None:
        while True:
            await self._stage.revive()
            await asyncio.sleep(REVIVE_EVERY)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(REVIVE_EVERY)
            self._phase("")

    def _phase(self, what: str, rows: int | None = None) -> None:
        seen = self._watcher.seen
        self._say(Phase(what, len(seen.published.accepted), seen.rows if rows is None else rows))


async def observe(drill: Drill, stage: Stage, stream: Traffic, say: Say, hold: float = 0.0) -> Observed:
    """Run a drill; a failure of the stage itself becomes part of the observation.

    ``hold``: seconds that the damage lasts at least, and that its aftermath is kept, for people who watch.
    """
    try:
        return await Runner(drill, stage, stream, say, hold).run()
    except (StageError, ChildFailed) as error:
        return broken(drill, str(error))


def broken(drill: Drill, why: str) -> Observed:
    """The observation of a drill that could not be carried out."""
    return Observed(drill.name, 0, 0, 0, 0, 0, 0, 0, None, None, errors=(why,))
