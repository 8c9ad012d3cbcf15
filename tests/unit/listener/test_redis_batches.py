"""Calls to several shards at once: their answers keep their order, and an error ends none of the others."""

import asyncio
from collections.abc import Sequence

import pytest

from unlost.listener.claims.redis.batches import BATCH, Shard, in_batches, together


async def test_an_error_is_raised_once_all_calls_have_ended():
    ended: list[str] = []

    async def fails() -> None:
        raise ConnectionError("first")

    async def ends_later() -> None:
        await asyncio.sleep(0.01)
        ended.append("other")

    with pytest.raises(ConnectionError, match="first"):
        await together([fails(), ends_later()])
    assert ended == ["other"], "a call that was cancelled would cost its connection"


@pytest.mark.parametrize("count", [1, 3])
async def test_answers_come_in_the_order_of_the_names_in_calls_of_limited_size(count: int):
    names = [b"%05d" % (number * 7_919 % 100_000) for number in range(2 * BATCH + 1)]
    shards = [Shard(number, b"", None, b"") for number in range(count)]  # type: ignore[arg-type]
    sizes: list[int] = []

    async def call(shard: Shard, numbers: Sequence[int]) -> list[bytes]:
        sizes.append(len(numbers))
        return [names[number] for number in numbers]

    assert await in_batches(shards, names, call) == names
    assert max(sizes) <= BATCH
