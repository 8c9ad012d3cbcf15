"""Finds how far retention goes, by halving: each entry says its time, and the bytes of all bodies up to its own."""

from collections.abc import Awaitable, Callable

from unlost.producer.journal.groups import RetentionLimits
from unlost.producer.journal.jetstream.messages import StoredMessage
from unlost.producer.journal.jetstream.reading import EntryReader


async def last_to_drop(
    reader: EntryReader, before: int, newest: int, chunk: int, keep: RetentionLimits, *, older_than: float, total: int
) -> int:
    """The last number that is too old, or whose removal is needed until all bodies up to ``total`` are gone."""
    most = min(newest, before + chunk, keep.after)
    old = await _last(reader, before, most, lambda one: one.entry.at < older_than)
    return max(old, await _last(reader, before, most, lambda one: one.total - len(one.entry.body) < total))


async def _last(reader: EntryReader, before: int, most: int, is_to_go: Callable[[StoredMessage], bool]) -> int:
    """The last number up to ``most`` of which this holds, if it holds of every one before."""

    async def goes(number: int) -> bool:
        found, one = await reader.next(number)
        return bool(found) and found <= most and (one is None or is_to_go(one))

    return await _halved(before, most, goes)


async def _halved(low: int, high: int, goes: Callable[[int], Awaitable[bool]]) -> int:
    if high <= low or not await goes(low + 1):  # mostly, nothing is to be done
        return low
    low += 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if await goes(middle) else (low, middle - 1)
    return low
