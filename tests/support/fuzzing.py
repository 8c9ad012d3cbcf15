"""Bytes that are nearly right, from a seed, and how much memory a server takes meanwhile."""

import random
import time
from collections.abc import Iterator

import psutil

SECONDS = 2.0
LEAST = 30
SEED = 2026
ODD = b"\x00\x01\t !\"'(),/:;<=>?@[\\]{}\x7f\x80\xa0\xff"
MOST_GROWTH = 64 * 1024 * 1024


def changed(value: bytes, rng: random.Random) -> bytes:
    """The value with one to three changes."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(value) + 1)
        match rng.randrange(9):
            case 0:
                value = value[:at]
            case 1:
                value = value[:at] + value[at + 1 :]
            case 2:
                value = value[:at] + bytes([rng.choice(ODD)]) + value[at:]
            case 3:
                value = value[:at] + bytes([rng.choice(ODD)]) + value[at + 1 :]
            case 4:
                value = value[:at] + value[at:].swapcase()
            case 5:
                value = value[:at] + value[at:][::-1]
            case 6:
                value = value + value[at:]
            case 7:
                value = value[:at] + rng.randbytes(8).replace(b"\r", b"").replace(b"\n", b"") + value[at:]
            case _:
                value = value[:at] + rng.choice((b"A", b"%00", b"\xc3\xa9", b"=")) * rng.randint(1, 2_000) + value[at:]
    return value


def mutants(value: bytes) -> Iterator[bytes]:
    """Yield changed values for some seconds, and at least a few of them."""
    rng, ends, left = random.Random(SEED), time.monotonic() + SECONDS, LEAST
    while left > 0 or time.monotonic() < ends:
        if (one := changed(value, rng)) != value:
            left -= 1
            yield one


def memory(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
