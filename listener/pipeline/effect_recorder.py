"""Writes the effects of an attempt in its transaction, and reports them once that is committed."""

from collections.abc import Callable, Sequence

from unlost.listener.core.effects import NewEffect
from unlost.listener.core.event import Event
from unlost.listener.core.facts import EffectsRecorded, Facts
from unlost.listener.core.targets import Targets
from unlost.listener.ports.effects import EffectRows
from unlost.listener.ports.rows import HandlerConnection


class EffectRecorder:
    """``targets``: where effects may go. Others fail the attempt for good, so nothing is stored that cannot be sent."""

    def __init__(self, rows: EffectRows, targets: Targets, facts: Facts) -> None:
        self._rows = rows
        self._targets = targets
        self._facts = facts
        self.wake: Callable[[], None] = lambda: None
        """Called when effects were committed."""

    async def record(self, connection: HandlerConnection, event: Event, effects: Sequence[NewEffect]) -> None:
        """Write them. Raises ``EffectRefused`` if one may not be sent where it asks to."""
        for one in effects:
            if one.kind == "post":
                self._targets.check(one.url)
        await self._rows.record(connection, event, effects)

    def committed(self, count: int) -> None:
        """Report that so many were committed."""
        if count:
            self._facts(EffectsRecorded(count))
            self.wake()
