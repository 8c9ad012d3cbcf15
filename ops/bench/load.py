"""What is published: bodies of a given size, each once, a share of them again later. Pure, the dice are an argument."""

import json
import random
from collections.abc import Iterator, Sequence

LINES = 2_000
"""Events in the body of one batch."""
AROUND = 112
"""Bytes of an event beside its filling, near enough."""


def event(number: int, run: str, size: int) -> bytes:
    """One event of about ``size`` bytes; ``run`` keeps the ids of different rounds apart."""
    filling = "x" * max(0, size - AROUND)
    payload = {"number": number, "user": f"user-{number % 997}", "text": filling}
    return json.dumps({"event_id": f"{run}-{number:08}", "type": "bench", "payload": payload}).encode()


def events(count: int, run: str, size: int) -> list[bytes]:
    """Distinct events."""
    return [event(number, run, size) for number in range(count)]


def with_duplicates(distinct: Sequence[bytes], share: float, dice: random.Random) -> list[bytes]:
    """The events, and so many copies among them that they make up ``share`` of the whole, each after its original."""
    copies = round(len(distinct) * share / (1 - share))
    places = [(number + 0.0, one) for number, one in enumerate(distinct)]
    for _ in range(copies):
        number = dice.randrange(len(distinct))
        places.append((number + dice.uniform(0.5, 5_000), distinct[number]))
    return [one for _, one in sorted(places)]


def bodies(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Bodies for publishing in batches."""
    for first in range(0, len(lines), LINES):
        yield b"\n".join(lines[first : first + LINES])
