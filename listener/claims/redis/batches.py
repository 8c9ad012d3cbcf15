"""A batch of events, split into calls: one series for each shard."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from unlost.listener.claims.redis.calls import RedisCalls

T = TypeVar("T")
BATCH = 1_024
"""Events in one call."""


class Shard(NamedTuple):
    """The part of a group's claims that is kept under one hash tag."""

    number: int
    tag: bytes
    calls: RedisCalls
    place: bytes
    """The run id and the mark of its server."""


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all calls, and raise the first error once all have ended: a cancelled call would cost its connection."""
    if len(calls) == 1:
        return [await calls[0]]
    done = await asyncio.gather(*calls, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return [one for one in done if not isinstance(one, BaseException)]


async def in_batches(
    shards: Sequence[Shard],
    names: Sequence[bytes],
    call: Callable[[Shard, Sequence[int]], Coroutine[Any, Any, Sequence[T]]],
) -> list[T]:
    """Call each shard with the numbers of its events, in batches that fit one call; return the answers in order.

    Shards work at the same time, since each is another server. The batches of one shard follow each other: all at once
    they would wait for its connections until they time out.
    """

    async def each(shard: Shard, numbers: Sequence[int]) -> list[T]:
        answers: list[T] = []
        for first in range(0, len(numbers), BATCH):
            answers += await call(shard, numbers[first : first + BATCH])
        return answers

    count = len(shards)
    if count == 1:
        return await each(shards[0], range(len(names)))
    own: list[list[int]] = [[] for _ in shards]
    for i, name in enumerate(names):
        own[(name[0] << 8 | name[1]) % count].append(i)
    parts = await together([each(shard, numbers) for shard, numbers in zip(shards, own, strict=True)])
    in_order: dict[int, T] = {}
    for numbers, part in zip(own, parts, strict=True):
        in_order.update(zip(numbers, part, strict=True))
    return [in_order[i] for i in range(len(names))]
