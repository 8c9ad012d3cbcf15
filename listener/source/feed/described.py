"""A feed that a profile describes."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from msgspec import UNSET

from unlost.listener.core.errors import Transient
from unlost.listener.core.gap import Gap
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.feed.backfill import ProfileBackfill
from unlost.listener.source.feed.calls import Call, call
from unlost.listener.source.feed.hook import Action, Feed, FeedStopped, NewConnection, Opening, Send, Stop
from unlost.listener.source.feed.loading import Loaded
from unlost.listener.source.feed.mapping import ProfileMapping
from unlost.listener.source.feed.paths import Fields, path_of
from unlost.listener.source.feed.profile import Open, UrlFrom
from unlost.listener.source.feed.slots import BAD_JSON
from unlost.listener.source.feed.templates import in_json, template_of


class ProfileFeed(Feed):
    """A ``Feed``. Texts from outside are looked up for each connection, so that a renewed secret is used."""

    trust = ("wire.ca", "wire.cert")

    def __init__(self, loaded: Loaded, *, max_bytes: int = 1024 * 1024, call: Call = call) -> None:
        profile = loaded.profile
        self._loaded = loaded
        self._profile = profile
        self._call = call
        self._mapping = ProfileMapping(profile, max_bytes=max_bytes)
        self._backfill = (
            None if profile.backfill is None else ProfileBackfill(profile, self._fill, call, hide=loaded.variables.hide)
        )
        self.fetching = None if self._backfill is None else self._backfill.fetching
        self.name = loaded.name
        self.acknowledges = profile.ack is not None and not profile.ack.at_once
        at_once = profile.ack is not None and profile.ack.at_once  # then the feed forgets what a listener still holds
        self.resumes = not at_once and (profile.cursor is not None or self.acknowledges)
        resume = profile.resume
        # After a message that asks for it, live events may come before those that are sent again.
        self.overlaps = profile.overlap > 0 and resume is not None and resume.message is None
        self.shared = profile.ack is not None
        self.key = profile.key or ""
        self.stop_on = [one for one in profile.stop_on if isinstance(one, int)]
        self.fresh = profile.fresh
        self.renew = profile.again.every if profile.again else None
        beat = profile.heartbeat
        self.beats_every = beat.every if beat and not isinstance(beat.every, str) else None
        self.opened_within += sum(step.within for step in profile.open if step.wait)
        self.numbers_each_connection = bool(profile.sequence and profile.sequence.each_connection)

    def read(self, message: bytes) -> Iterable[Action]:
        """See ``Feed``."""
        return self._mapping.read(message)

    async def opening(self, after: str | None) -> Opening:
        """See ``Feed``."""
        fill, connection = self._fill, self._profile.wire
        self._mapping.renew(fill)
        if self._profile.url_from is not None:
            url = await self._called(self._profile.url_from)
        else:
            url = fill(self._profile.url or "")
        resume = self._profile.resume
        if after is not None and resume is not None and resume.query is not None:
            url = with_query(url, resume.query, self._with_overlap(after))
        headers = {name: fill(value) for name, value in connection.headers.items()}
        if after is not None and resume is not None and resume.header is not None:
            headers[resume.header] = self._with_overlap(after)
        return Opening(
            url=url,
            headers=headers,
            subprotocols=[fill(one) for one in connection.subprotocols],
            proxy=fill(connection.proxy) if connection.proxy else None,
            ca=fill(connection.ca) if connection.ca else None,
            cert=fill(connection.cert) if connection.cert else None,
            key=fill(connection.key) if connection.key else None,
            compression=connection.compression,
        )

    async def opened(self, connection: NewConnection) -> None:
        """See ``Feed``."""
        for number, step in enumerate(self._profile.open):
            if step.send is not None:
                await connection.send(self._filled(step.send))
            if step.wait:
                await self._wait(connection, number, step)
        resume = self._profile.resume
        if connection.after is not None and resume is not None and resume.message is not None:
            cursor = self._with_overlap(connection.after)
            await connection.send(self._filled(resume.message, cursor))

    def settled(self, receipt: Any) -> Send | None:
        """See ``Feed``."""
        return Send(str(receipt))

    def beat(self) -> Send | None:
        """See ``Feed``."""
        heartbeat = self._profile.heartbeat
        return None if heartbeat is None else Send(self._filled(heartbeat.send))

    def fetch(self, gap: Gap) -> AsyncIterator[Iterable[Action]]:
        """See ``Feed``."""
        return super().fetch(gap) if self._backfill is None else self._backfill.fetch(gap)

    def _fill(self, text: str) -> str:
        try:
            return self._loaded.variables.fill(text)
        except ValueError as error:  # it was there at the start; the file may come back
            raise SourceEnded(Loss(str(error))) from None

    def _filled(self, text: str, cursor: str | None = None) -> str:
        template = template_of(text).known(self._fill)
        own = {} if cursor is None else {"cursor": cursor}
        return template.filled(lambda hole: in_json(own[hole] if hole in own else self._last(hole)))

    def _last(self, hole: str) -> Any:
        return self._mapping.remembered().get(path_of(hole), UNSET)

    def _with_overlap(self, cursor: str) -> str:
        overlap = self._profile.overlap
        return str(max(0, int(cursor) - overlap)) if overlap and cursor.isascii() and cursor.isdigit() else cursor

    async def _called(self, given: UrlFrom) -> str:
        fill = self._fill
        headers = {name: fill(value) for name, value in given.headers.items()}
        answer = await self._call(given.method, fill(given.url), headers, fill(given.body) if given.body else None)
        try:
            found = Fields([path_of(given.at)]).read(answer)[0]
        except BAD_JSON as error:
            raise Transient(f"url_from: the answer is not JSON: {error}") from None
        if isinstance(found, str) and found.startswith("ws://") and fill(given.url).startswith("https://"):
            raise Transient("url_from: the call is https://, and its answer an address that is not wss://")
        if not isinstance(found, str) or not found.startswith(("ws://", "wss://")):
            said = self._loaded.variables.hide(answer[:200].decode(errors="replace"))
            raise Transient(f"url_from: no WebSocket address stands at {given.at} of the answer: {said}")
        return found

    async def _wait(self, connection: NewConnection, number: int, step: Open) -> None:
        try:
            async with asyncio.timeout(step.within):
                while True:
                    message = await connection.receive()
                    if self._mapping.answers(number, message):
                        return
                    for action in self.read(message):
                        if isinstance(action, Stop):
                            raise FeedStopped(action.why)
        except TimeoutError:
            raise SourceEnded(Loss(f"the feed did not answer step {number + 1} of open in {step.within:g} s")) from None


def with_query(url: str, name: str, value: str) -> str:
    """Return the address with one more value in its query. The rest is not changed: it may be signed."""
    parts = urlsplit(url)
    query = [one for one in parts.query.split("&") if one and one.partition("=")[0] != name]
    return urlunsplit(parts._replace(query="&".join([*query, f"{quote(name, safe='')}={quote(value, safe='')}"])))
