"""The published load: events of a given size, and a share of duplicates. Pure: random numbers are an argument."""

import json
import random
from collections.abc import Iterator, Sequence

LINES = 2_000
"""Events in the body of one batch."""
AROUND = 112
"""Bytes of an event without its filler text, approximately."""
IDS, STEP = 10**8, 61_803_399
"""A step without a common divisor leads to each number once."""


def event(number: int, run: str, size: int, event_id: str = "") -> bytes:
    """Make an event of about ``size`` bytes; ``run`` keeps the ids of different rounds apart."""
    filling = "x" * max(0, size - AROUND)
    return _line(number, event_id or f"{run}-{number:08}", f"user-{number % 997}", filling)


def _line(number: int, event_id: str, user: str, filling: str) -> bytes:
    payload = {"number": number, "user": user, "text": filling}
    return json.dumps({"event_id": event_id, "type": "bench", "payload": payload}).encode()


def events(count: int, run: str, size: int) -> list[bytes]:
    """Make distinct events."""
    return [event(number, run, size) for number in range(count)]


def scattered(number: int, run: str) -> str:
    """Make an id that follows no order, as most publishers' ids do: indexes then grow at every place."""
    return f"{run}-{number * STEP % IDS:08}"


def structured(count: int, run: str, size: int) -> list[bytes]:
    """Make distinct events whose payloads are lists of small objects, as orders have, of about ``size`` bytes."""
    items = [
        {
            "sku": f"sku-{number * 7_919 % 10_007}",
            "price": number * 13 % 9_973 / 100,
            "count": number % 9,
            "gift": False,
        }
        for number in range(size)
    ]
    each = len(json.dumps(items[:100])) / 100
    items = items[: max(1, round((size - AROUND) / each))]
    return [
        json.dumps(
            {"event_id": f"{run}-{number:08}", "type": "bench", "payload": {"number": number, "items": items}}
        ).encode()
        for number in range(count)
    ]


def keyed(keys: Sequence[int], run: str, size: int) -> list[bytes]:
    """Make distinct events, one for each of these numbers of keys. The key is the payload's ``user``."""
    filling = "x" * max(0, size - AROUND)
    return [_line(number, f"{run}-{number:08}", f"user-{key}", filling) for number, key in enumerate(keys)]


def even(count: int, keys: int) -> list[int]:
    """Spread events evenly over keys."""
    return [number % keys for number in range(count)]


def zipf(count: int, keys: int, rng: random.Random) -> list[int]:
    """Spread events as Zipf(1.0) does: the key of rank r gets a share proportional to 1/r."""
    return rng.choices(range(keys), [1 / rank for rank in range(1, keys + 1)], k=count)


def with_duplicates(distinct: Sequence[bytes], share: float, rng: random.Random) -> list[bytes]:
    """Mix copies among the events, each after its original, until they are ``share`` of the whole."""
    copies = round(len(distinct) * share / (1 - share))
    places = [(number + 0.0, one) for number, one in enumerate(distinct)]
    for _ in range(copies):
        number = rng.randrange(len(distinct))
        places.append((number + rng.uniform(0.5, 5_000), distinct[number]))
    return [one for _, one in sorted(places)]


def bodies(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Group lines into bodies of batches."""
    for first in range(0, len(lines), LINES):
        yield b"\n".join(lines[first : first + LINES])
