"""A schedule: everything that will happen in one run, made from a seed. Pure.

What a seed makes does not depend on what is dropped from it afterwards. So a failing schedule shrinks to a seed and a
short list of what to leave out.
"""

import random
from collections.abc import Collection
from typing import Literal

import msgspec

Work = Literal["recorded", "plain", "transaction"]

PROCESS_FAULTS = ("kill", "freeze", "stop")
LINK_FAULTS = ("refused", "silent", "deaf", "slow", "flaky")
REDIS_FAULTS = ("down", "freeze", "restart empty", "restart", "flush", "fail over")
POSTGRES_FAULTS = ("down", "freeze", "crash")
SOURCE_FAULTS = ("cut", "down")
RESTORES = ("restore dump", "restore data")
JOURNAL_RESTORES = ("restore journal", "lose journal")
RETENTION_SALT, BOTH_SALT, TURNS_SALT, STOPS_SALT, OUTAGE_SALT, CLOCK_SALT, NEIGHBOURS_SALT = 33, 34, 35, 36, 37, 53, 42
RESTORE_SALT, ODD_SALT, JOURNAL_SALT = 61, 38, 72
"""Later additions have random generators of their own, so that old seeds still make what they once made."""


class Happening(msgspec.Struct, frozen=True):
    """One frame that the source accepts, and what a handler does with its event."""

    name: str
    at: float
    event_id: str
    content: int = 0
    valid: bool = True
    seconds: float = 0.0
    failures: int = 0
    rejected: bool = False
    poison: bool = False

    def frame(self) -> bytes:
        """The frame that the source accepts."""
        event_id = f'"{self.event_id}"' if self.valid else str(int(self.event_id[1:]))
        return f'{{"event_id":{event_id},"payload":{{"content":{self.content}}}}}'.encode()


class Fault(msgspec.Struct, frozen=True):
    """What goes wrong, where, from when, and for how long."""

    name: str
    at: float
    seconds: float
    what: str
    target: str
    server: str = ""


class Schedule(msgspec.Struct, frozen=True):
    """One run."""

    seed: int
    work: Work
    resumes: bool
    listeners: tuple[tuple[str, float], ...]
    happenings: tuple[Happening, ...]
    faults: tuple[Fault, ...]
    affinity: bool = False
    """Whether listeners leave events to the preferred peer for a while, instead of all claiming at once."""
    odd: str = ""
    """The listener whose handler differs from the others'."""

    def without(self, names: Collection[str]) -> "Schedule":
        """The same run without these happenings, faults and listeners."""
        return msgspec.structs.replace(
            self,
            listeners=tuple(one for one in self.listeners if one[0] not in names),
            happenings=tuple(one for one in self.happenings if one.name not in names),
            faults=tuple(one for one in self.faults if one.name not in names and one.target not in names),
        )

    def names(self) -> list[str]:
        """The names of everything that can be left out, the largest first."""
        return [
            *(name for name, _ in self.listeners[1:]),
            *(fault.name for fault in self.faults),
            *(happening.name for happening in self.happenings),
        ]


def schedule(seed: int) -> Schedule:
    """The schedule of this seed."""
    dice = random.Random(seed * 2_654_435_761 + 97)
    count = dice.choices((1, 2, 3), (1, 8, 3))[0]
    listeners = tuple((f"l{n}", 0.0 if dice.random() < 0.6 else dice.uniform(0, 2)) for n in range(count))
    work: Work = dice.choices(("recorded", "plain", "transaction"), (3, 6, 3))[0]  # type: ignore[assignment]
    quiet = dice.random() < 0.1
    faults = tuple(
        _fault(dice, number, [name for name, _ in listeners]) for number in range(dice.choice((1, 1, 2, 2, 3, 4)))
    )
    names = [name for name, _ in listeners]
    faults += _retention(random.Random(seed * 2_654_435_761 + RETENTION_SALT), names)
    faults += _cut_off_from_both(random.Random(seed * 2_654_435_761 + BOTH_SALT), names)
    faults += _long_outage(random.Random(seed * 2_654_435_761 + OUTAGE_SALT))
    resumes = dice.random() < 0.8
    if not resumes:
        faults += _stops(random.Random(seed * 2_654_435_761 + STOPS_SALT), names)
    faults += _clock_back(random.Random(seed * 2_654_435_761 + CLOCK_SALT), names)
    happenings = _happenings(dice)
    happenings += _neighbours(random.Random(seed * 2_654_435_761 + NEIGHBOURS_SALT), len(happenings))
    faults += _restored(random.Random(seed * 2_654_435_761 + RESTORE_SALT), names)
    if resumes:
        at_restore, published = _journal_set_back(
            random.Random(seed * 2_654_435_761 + JOURNAL_SALT), names, len(happenings)
        )
        faults, happenings = faults + at_restore, happenings + published
    return Schedule(
        seed=seed,
        work=work,
        resumes=resumes,
        listeners=listeners,
        happenings=happenings,
        faults=() if quiet else faults,
        affinity=random.Random(seed * 2_654_435_761 + TURNS_SALT).random() < 0.5,
        odd=_odd(random.Random(seed * 2_654_435_761 + ODD_SALT), names) if work != "recorded" else "",
    )


def _odd(dice: random.Random, listeners: list[str]) -> str:
    """Sometimes one listener has another handler."""
    return dice.choice(listeners) if len(listeners) > 1 and dice.random() < 0.1 else ""


def _happenings(dice: random.Random) -> tuple[Happening, ...]:
    happenings: list[Happening] = []
    burst = dice.random() < 0.4
    for number in range(dice.randint(1, 6)):
        chance = dice.random()
        at = dice.uniform(0.3, 0.5) if burst else dice.uniform(0.0, 2.5)
        seconds = dice.choice((0.0, 0.01, 0.05, 0.2, 0.2, 0.8, 0.8, 2.5))
        if chance < 0.15 and happenings:
            earlier = dice.choice(happenings)
            content = earlier.content if dice.random() < 0.8 else 1
            happenings.append(
                msgspec.structs.replace(
                    earlier, name=f"e{number}", at=min(earlier.at + dice.uniform(0, 4), 6.0), content=content
                )
            )
            continue
        happenings.append(
            Happening(
                name=f"e{number}",
                at=at,
                event_id=f"e{number}",
                seconds=seconds,
                valid=chance < 0.97,
                failures=dice.choice((1, 1, 2, 5)) if dice.random() < 0.15 else 0,
                rejected=dice.random() < 0.05,
                poison=dice.random() < 0.03,
            )
        )
    return tuple(happenings)


def _retention(dice: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes the source removes entries that a restarting listener would still have read."""
    if dice.random() >= 0.1:
        return ()
    at = dice.uniform(0.5, 3.5)
    killed_at = max(0.0, at - dice.uniform(0.0, 1.0))
    return (
        Fault("f8", killed_at, dice.choice((0.3, 1.2, 2.5)), "kill", dice.choice(listeners)),
        Fault("f9", at, 0.0, "retention", "source"),
    )


def _stops(dice: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """If the source sends nothing again, orderly stops are what could lose events."""
    if dice.random() >= 0.6:
        return ()
    return tuple(
        Fault(f"s{number}", dice.uniform(0.2, 3.0), 0.0, "stop", dice.choice(listeners))
        for number in range(dice.choice((1, 1, 2, 3)))
    )


def _clock_back(dice: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes Redis' clock goes back, by more than any duration in the run, while an owner is killed."""
    if dice.random() >= 0.05:
        return ()
    at = dice.uniform(0.4, 2.5)
    killed_at = max(0.0, at + dice.uniform(-0.5, 0.5))
    return (
        Fault("f10", at, 0.0, "clock back", "redis"),
        Fault("f11", killed_at, dice.choice((0.3, 1.2, 2.5)), "kill", dice.choice(listeners)),
    )


def _neighbours(dice: random.Random, count: int) -> tuple[Happening, ...]:
    """Sometimes an event that kills its owners is one among many that are held at the same moment."""
    if dice.random() >= 0.04:
        return ()
    size = dice.randint(6, 14)
    poison = dice.randrange(size)
    return tuple(
        Happening(
            name=f"e{count + number}",
            at=dice.uniform(0.3, 0.4),
            event_id=f"e{count + number}",
            seconds=dice.choice((0.05, 0.2, 0.8)),
            poison=number == poison,
        )
        for number in range(size)
    )


def _restored(dice: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes PostgreSQL goes back, mostly while listeners run."""
    if dice.random() >= 0.1:
        return ()
    at, seconds = dice.uniform(0.2, 2.5), dice.choice((0.1, 0.7, 1.2, 2.0, 3.0))
    restored = Fault("g0", at, seconds, dice.choice(RESTORES), "postgres")
    if dice.random() < 0.65:
        return (restored,)
    killed_at = max(0.0, at + seconds - dice.uniform(0.0, 0.3))
    kills = [Fault(f"g{1 + n}", killed_at, dice.choice((0.4, 0.8)), "kill", one) for n, one in enumerate(listeners)]
    return (restored, *kills)


def _journal_set_back(
    dice: random.Random, listeners: list[str], count: int
) -> tuple[tuple[Fault, ...], tuple[Happening, ...]]:
    """Sometimes the journal goes back to a backup, or is lost, after some events and before others.

    Listeners may be down or frozen meanwhile, and the producer may have been restarted since the backup.
    """
    if dice.random() >= 0.1:
        return (), ()
    at, seconds = dice.uniform(0.2, 2.0), dice.choice((0.1, 0.4, 0.8, 1.2, 2.0))
    back_at = at + seconds
    faults = [Fault("j0", at, seconds, dice.choices(JOURNAL_RESTORES, (4, 1))[0], "source")]
    if dice.random() < 0.3:
        faults.append(Fault("j1", at + 0.1 * seconds, 0.2 * seconds, "down", "source"))
    for number, one in enumerate(listeners, 2):
        if dice.random() < 0.4:
            away_at = max(0.0, back_at - dice.uniform(0.0, 0.5))
            what = dice.choice(("kill", "kill", "freeze", "stop"))
            faults.append(Fault(f"j{number}", away_at, dice.choice((0.3, 0.8, 2.0)), what, one))
    times = [at + seconds * dice.random() for _ in range(dice.randint(1, 3))]
    times += [back_at + 0.4 + dice.uniform(0.0, 1.5) for _ in range(dice.randint(0, 4))]
    published = [
        Happening(f"e{number}", when, f"e{number}", seconds=dice.choice((0.0, 0.05, 0.2, 0.8)))
        for number, when in enumerate(times, count)
    ]
    return tuple(faults), tuple(published)


def _cut_off_from_both(dice: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes one listener reaches neither place, and mostly something happens to Redis meanwhile."""
    if dice.random() >= 0.08:
        return ()
    target, at = dice.choice(listeners), dice.uniform(0.3, 2.0)
    faults = [
        Fault(f"f{6 + number}", at + dice.uniform(0.0, 0.5), dice.choice((2.5, 4.0)), what, target, server)
        for number, server in enumerate(("redis", "postgres"))
        for what in (dice.choice(("refused", "silent", "deaf")),)
    ]
    if dice.random() < 0.7:
        what = dice.choice(REDIS_FAULTS)
        faults.append(Fault("f5", at + dice.uniform(0.0, 1.0), dice.choice((0.3, 1.2)), what, "redis"))
    return tuple(faults)


def _long_outage(dice: random.Random) -> tuple[Fault, ...]:
    """Sometimes PostgreSQL, or its table of events, is out of reach for longer than all attempts take."""
    if dice.random() >= 0.1:
        return ()
    what = dice.choice(("locked", "locked", *POSTGRES_FAULTS))
    return (Fault("f10", dice.uniform(0.3, 2.5), dice.choice((4.0, 8.0)), what, "postgres"),)


def _fault(dice: random.Random, number: int, listeners: list[str]) -> Fault:
    at = dice.uniform(0.0, 3.0)
    seconds = dice.choice((0.05, 0.3, 0.7, 1.2, 1.2, 2.5, 4.0))
    name = f"f{number}"
    match dice.choices(("process", "link", "redis", "postgres", "source", "disk"), (5, 5, 4, 4, 1, 1))[0]:
        case "process":
            what = dice.choice(PROCESS_FAULTS)
            return Fault(name, at, seconds, what, dice.choice(listeners))
        case "link":
            what, server = dice.choice(LINK_FAULTS), dice.choice(("redis", "postgres"))
            return Fault(name, at, seconds, what, dice.choice(listeners), server)
        case "redis":
            return Fault(name, at, seconds, dice.choice(REDIS_FAULTS), "redis")
        case "postgres":
            return Fault(name, at, seconds, dice.choice(POSTGRES_FAULTS), "postgres")
        case "source":
            return Fault(name, at, seconds, dice.choice(SOURCE_FAULTS), "source")
        case _:
            return Fault(name, at, seconds, "full", dice.choice(listeners), "disk")
