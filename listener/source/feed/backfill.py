"""Fetches what a gap has missed by HTTP calls, as a profile's ``[backfill]`` describes them.

Calls, their pages and their bytes are limited. An answer that is mostly no events is an error of the call, so an error
page never becomes dead letters. An item without an id among valid ones does.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from unlost.listener.core.gap import Gap
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.feed.calls import Call, CallRefused, TooLarge
from unlost.listener.source.feed.gaps import divided, missing_numbers
from unlost.listener.source.feed.hook import Action, FeedEvent, FetchedInPart, Fetching, NotFetchable, Refused
from unlost.listener.source.feed.mapping import ProfileMapping
from unlost.listener.source.feed.paths import Fields, begins_at_the_whole, path_of
from unlost.listener.source.feed.profile import Backfill, Profile, SequenceTable
from unlost.listener.source.feed.slots import BAD_JSON
from unlost.listener.source.feed.templates import in_address, in_json, template_of

POINTLESS = (400, 404, 405, 410, 414, 422)
"""HTTP statuses that a repeated call would get again."""
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
BY = "{gap.by}"


class ProfileBackfill:
    """The calls of one profile. ``fill`` fills in variables, ``hide`` masks their values."""

    def __init__(self, profile: Profile, fill: Callable[[str], str], call: Call, *, hide: Callable[[str], str]) -> None:
        assert profile.backfill is not None
        self._profile = profile
        self._given: Backfill = profile.backfill
        self._fill = fill
        self._call = call
        self._hide = hide
        self._called_at = float("-inf")
        given = self._given
        self.fetching = Fetching(after=given.after, within=given.within, tries=given.tries)

    async def fetch(self, gap: Gap) -> AsyncIterator[Sequence[Action]]:
        """See ``Feed.fetch``."""
        given = self._given
        values = values_of(gap, given)
        mapping = _mapping(self._profile, given, values["by"])
        values["next"] = "" if given.start is None else self._filled(given.start, values, str)
        size, missing = 0, Missing(gap)
        for page in range(1, given.pages + 1):
            body = await self._page(values)
            size += len(body)
            actions = self._sound(await asyncio.to_thread(_read, mapping, body), body)
            yield missing.of(actions)
            following = _next(given, body)
            if following is None or missing.has_all:
                return
            if size >= given.bytes:
                raise FetchedInPart(f"{size:,} bytes came, and more pages follow (bytes)")
            if following == values["next"]:
                raise FetchedInPart(f"page {page:,} names itself as the next one")
            values = {**values, "next": following}
        raise FetchedInPart(f"there are more than {given.pages:,} pages (pages)")

    async def _page(self, values: Mapping[str, str | None]) -> bytes:
        given = self._given
        url = self._filled(given.url, values, lambda value: in_address(value, "url"))
        body = None if given.body is None else self._filled(given.body, values, in_json)
        headers = {name: self._fill(value) for name, value in given.headers.items()}
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._called_at + given.every - clock())
        self._called_at = clock()
        try:
            return await self._call(given.method, url, headers, body)
        except CallRefused as error:
            why = self._hide(error.loss.why)
            raise NotFetchable(why) if error.status in POINTLESS else _ended(why, error.loss.wait) from None
        except SourceEnded as error:
            raise _ended(self._hide(error.loss.why), error.loss.wait) from None
        except TooLarge as error:
            raise NotFetchable(self._hide(str(error))) from None

    def _filled(self, text: str, values: Mapping[str, str | None], form: Callable[[str], str]) -> str:
        def value_of(hole: str) -> str:
            value = values[hole]
            if value is None:
                raise NotFetchable(f"the gap has no {{{hole}}}")
            return form(value)

        return template_of(text).known(self._fill).filled(value_of)

    def _sound(self, actions: list[Action], body: bytes) -> list[Action]:
        """Return what an answer became, unless it seems to be another answer than the one that was asked for."""
        refused = [action for action in actions if isinstance(action, Refused)]
        if len(refused) * 2 <= len(actions):
            return actions
        count = "no event" if len(refused) == len(actions) else f"only {len(actions) - len(refused):,} events"
        said = self._hide(body[:200].decode(errors="replace"))
        raise _ended(f"the answer has {count}, since {refused[0].why}: {said}")


class Missing:
    """The missing numbers of a gap. Events with others are left out, and once all have come, no page is asked for."""

    def __init__(self, gap: Gap) -> None:
        self._numbers = missing_numbers(gap)
        self._found: set[int] = set()

    @property
    def has_all(self) -> bool:
        """Whether all have come."""
        return self._numbers is not None and len(self._found) == len(self._numbers)

    def of(self, actions: Sequence[Action]) -> Sequence[Action]:
        """Return what may belong to the gap: an interface often returns older events, too."""
        return [action for action in actions if self._belongs(action)]

    def _belongs(self, action: Action) -> bool:
        if self._numbers is None or not isinstance(action, FeedEvent) or action.sequence is None:
            return True
        number = action.sequence[1]
        if number in self._numbers:
            self._found.add(number)
        return number in self._numbers


def values_of(gap: Gap, given: Backfill) -> dict[str, str | None]:
    """Return the value of each name in braces; None if this gap does not have it."""
    by, after = divided(gap.after)
    before = divided(gap.resumed_at)[1]
    numbers = gap.how == "sequence" and gap.missing is not None and after is not None and before is not None
    return {
        "from": _time(gap.began_at - given.margin, given.time),
        "to": _time(gap.declared_at + given.margin, given.time),
        "after": str(after) if numbers else gap.after,
        "before": str(before) if numbers else gap.resumed_at,
        "first": str(after + 1) if numbers and after is not None else None,
        "last": str(before - 1) if numbers and before is not None else None,
        "by": by if numbers else None,
        "next": "",
    }


def _time(at: float, form: str) -> str:
    if form == "iso":
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(int(at * PER_SECOND[form]))


def _mapping(profile: Profile, given: Backfill, by: str | None) -> ProfileMapping:
    """Return the profile's rules for answers. Only what makes events of them counts."""
    own = {name: getattr(given, name) or getattr(profile, name) for name in ("id", "type", "payload", "each")}
    own |= {name: _with_by(own[name], by) for name in ("id", "type")}
    own["sequence"] = _numbers(profile, given)
    without: dict[str, Any] = {"reply": [], "open": [], "stop_on": [], "keep": [], "drop": [], "strip": ""}
    none = dict.fromkeys(("heartbeat", "again", "ack", "cursor", "resume", "decode"))
    # An answer is read in a thread, and its events are taken in parts.
    answers = profile.model_copy(update={**own, **without, **none, "lines": given.lines})
    return ProfileMapping(answers, most=math.inf)


def _numbers(profile: Profile, given: Backfill) -> SequenceTable | None:
    """Return where the number of an event stands in an answer: where it stands in the feed's events, by default."""
    at = given.at or (profile.sequence.at if profile.sequence is not None else None)
    return None if at is None or begins_at_the_whole(at) else SequenceTable.model_validate({"at": at})


def _read(mapping: ProfileMapping, body: bytes) -> list[Action]:
    """Read an answer. It may have a million items, so another thread does it."""
    return list(mapping.read(body))


def _with_by(given: Any, by: str | None) -> Any:
    if isinstance(given, list):
        return [_with_by(one, by) for one in given]
    if not isinstance(given, str) or BY not in given:
        return given
    if by is None or "{" in by:
        raise NotFetchable(f"the gap has no {BY}, which id or type needs")
    return given.replace(BY, by)


def _ended(why: str, wait: float = 0.0) -> SourceEnded:
    return SourceEnded(Loss(why, wait=wait))


def _next(given: Backfill, body: bytes) -> str | None:
    if given.next is None:
        return None
    try:
        found = Fields([path_of(given.next)]).read(body)[0]
    except BAD_JSON as error:
        raise _ended(f"the answer is not JSON: {error}") from None
    if type(found) is str and found:
        return found
    return str(found) if type(found) is int else None
