"""Notifies people: of a new kind of letter, letters that heal no longer, a gap, an audit that is not clean.

Each listener looks every few seconds; the table's primary key decides that a happening is entered once for each
receiver, and a lease that one listener sends it. The sender is that of effects: allowed hosts, no redirects, bounded.
A listener that is killed between the receiver's answer and the record sends once more, under the same ``webhook-id``.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.effects import Effect
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts, NotificationEnded
from unlost.listener.core.notification import Notification
from unlost.listener.effects.templates import Receiver, body_of
from unlost.listener.ports.effects import Channel
from unlost.listener.ports.notifications import Notifications
from unlost.ops.kit.telemetry.redact import Redactor

LOOK_EVERY_SECONDS = 5.0
AT_ONCE = 5
RETRY = Backoff(attempts=12, first=5.0, longest=3_600.0)


class Notifying:
    """Looks and sends. ``run`` is a task; without receivers it ends at once."""

    def __init__(
        self,
        kept: Notifications,
        channel: Channel,
        receivers: Sequence[Receiver],
        *,
        lease: float,
        group: str,
        console: str | None,
        redactor: Redactor,
        facts: Facts,
    ) -> None:
        """``lease``: seconds; longer than ``channel`` may take to send."""
        self._kept = kept
        self._channel = channel
        self._receivers = {one.template: one for one in receivers}
        self._lease = lease
        self._group = group
        self._console = console
        self._redactor = redactor
        self._facts = facts

    async def run(self) -> None:
        """Look until cancelled."""
        while self._receivers:
            with contextlib.suppress(Transient, Permanent):
                await self.look()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Enter what happened, and send what is ready."""
        targets = list(self._receivers)
        await self._kept.enter(targets)
        while some := await self._kept.take(targets, AT_ONCE, self._lease):
            await asyncio.gather(*map(self._send, some))

    async def _send(self, one: Notification) -> None:
        receiver = self._receivers[one.target]  # type: ignore[index]
        answer = await self._channel.send(self._call(receiver, one))
        if answer.what == "again" and one.attempts < RETRY.attempts:
            await self._kept.again(one, max(answer.after, RETRY.pause(one.attempts, 0.5)))
            return
        outcome = "sent" if answer.what == "delivered" else f"given up: {answer.why}"
        await self._kept.ended(one, outcome)
        self._facts(NotificationEnded(one.key, one.target, "" if answer.what == "delivered" else answer.why))

    def _call(self, receiver: Receiver, one: Notification) -> Effect:
        facts = {name: self._shown(name, value) for name, value in one.facts.items()}
        shown = msgspec.structs.replace(one, facts=facts)
        body = body_of(receiver, shown, group=self._group, console=self._console)
        headers = {"content-type": "application/json"}
        return Effect(one.key, 1, f"{self._group}:{one.key}", "post", receiver.url, "", headers, body, one.attempts - 1)

    def _shown(self, name: str, value: str | int | None) -> str | int | None:
        """The message of an error may quote a payload."""
        return self._redactor.unknown(value) if name == "message" and isinstance(value, str) else value
