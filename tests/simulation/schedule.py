"""A schedule: everything that will happen in one run, made from a seed. Pure.

A seed makes the same schedule, whatever is dropped from it afterwards. So a failing schedule shrinks to a seed and a
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
NEEDY_EACH, DEAD_SALT = 29, 91
"""One schedule in so many has a handler that needs something which is away."""
EFFECTS_EACH = 5
"""One schedule in so many of those with transactions has effects."""
RETENTION_SALT, BOTH_SALT, TURNS_SALT, STOPS_SALT, OUTAGE_SALT, CLOCK_SALT, NEIGHBOURS_SALT = 33, 34, 35, 36, 37, 53, 42
RESTORE_SALT, ODD_SALT, JOURNAL_SALT, ACKS_SALT = 61, 38, 72, 103
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
    key: str = ""
    type: str = ""

    def frame(self) -> bytes:
        """The frame that the source accepts."""
        event_id = f'"{self.event_id}"' if self.valid else str(int(self.event_id[1:]))
        key = f',"key":"{self.key}"' if self.key else ""
        kind = f'"type":"{self.type}",' if self.type else ""
        return f'{{"event_id":{event_id},{kind}"payload":{{"content":{self.content}{key}}}}}'.encode()


class Fault(msgspec.Struct, frozen=True):
    """A fault: its kind, its place, its beginning, and its duration."""

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
    dead: tuple[float, float] = (0.0, 0.0)
    """From when until when something is away that the handler needs for every event."""
    order_by: str = ""
    """The path of the key in whose order events are processed."""
    declared: str = ""
    """What declares that key: ``route`` or ``source``, and ORDER_BY names a field that no event has; else ORDER_BY."""
    after_letter: str = "park"
    """What later events of a key do once one is a letter."""
    policies: tuple[str, ...] = ()
    """The types of events that have policies of their own, by their routes: see ``handlers.py``."""
    fixed_at: float = 0.0
    """From when on a handler rejects nothing any more; 0: never."""
    acks: bool = False
    """Whether the source is a broker, which gives each message to one listener until it is acknowledged."""

    topic: bool = False
    """Whether the source is a topic of Kafka, whose partitions the listeners share."""
    partitions: bool = False
    """Whether each listener reads a share of the stream."""
    reads_all: str = ""
    """The listener that reads all nevertheless."""
    reads_nothing: str = ""
    """The listener that never reaches the source."""
    effects: bool = False
    """Whether the handler of each event records an effect."""

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
    rng = random.Random(seed * 2_654_435_761 + 97)
    count = rng.choices((1, 2, 3), (1, 8, 3))[0]
    listeners = tuple((f"l{n}", 0.0 if rng.random() < 0.6 else rng.uniform(0, 2)) for n in range(count))
    work: Work = rng.choices(("recorded", "plain", "transaction"), (3, 6, 3))[0]
    quiet = rng.random() < 0.1
    faults = tuple(
        _fault(rng, number, [name for name, _ in listeners]) for number in range(rng.choice((1, 1, 2, 2, 3, 4)))
    )
    names = [name for name, _ in listeners]
    faults += _retention(random.Random(seed * 2_654_435_761 + RETENTION_SALT), names)
    faults += _cut_off_from_both(random.Random(seed * 2_654_435_761 + BOTH_SALT), names)
    faults += _long_outage(random.Random(seed * 2_654_435_761 + OUTAGE_SALT))
    resumes = rng.random() < 0.8
    if not resumes:
        faults += _stops(random.Random(seed * 2_654_435_761 + STOPS_SALT), names)
    faults += _clock_back(random.Random(seed * 2_654_435_761 + CLOCK_SALT), names)
    happenings = _happenings(rng)
    happenings += _neighbours(random.Random(seed * 2_654_435_761 + NEIGHBOURS_SALT), len(happenings))
    faults += _restored(random.Random(seed * 2_654_435_761 + RESTORE_SALT), names)
    if resumes:
        at_restore, published = _journal_set_back(
            random.Random(seed * 2_654_435_761 + JOURNAL_SALT), names, len(happenings)
        )
        faults, happenings = faults + at_restore, happenings + published
    acks = resumes and random.Random(seed * 2_654_435_761 + ACKS_SALT).random() < 0.1
    if acks:  # a broker removes nothing that was not acknowledged, and is not set back
        faults = tuple(one for one in faults if one.what not in ("retention", *JOURNAL_RESTORES))
    made = Schedule(
        seed=seed,
        work=work,
        acks=acks,
        resumes=resumes,
        listeners=listeners,
        happenings=happenings,
        faults=() if quiet else faults,
        affinity=random.Random(seed * 2_654_435_761 + TURNS_SALT).random() < 0.5,
        odd=_odd(random.Random(seed * 2_654_435_761 + ODD_SALT), names) if work != "recorded" else "",
    )
    if work == "transaction" and seed % EFFECTS_EACH == EFFECTS_EACH - 1:
        made = msgspec.structs.replace(made, effects=True, odd="")
    needy = work != "recorded" and seed % NEEDY_EACH == NEEDY_EACH - 1
    return _needy(made, random.Random(seed * 2_654_435_761 + DEAD_SALT)) if needy else made


def _needy(made: Schedule, rng: random.Random) -> Schedule:
    """Let the handler need something that is away for a while, for many events at once.

    In half of these runs nothing else goes wrong and one listener is alone. Then it must not bury anything.
    """
    many = [(rng.uniform(0.3, 0.4), number) for number in range(rng.randint(8, 16))]
    many += [(rng.uniform(0.5, 3.0), number) for number in range(len(many), len(many) + rng.randint(0, 8))]
    first = 0 if rng.random() < 0.5 else len(made.happenings)
    names = [(at, f"e{first + number}") for at, number in many]
    happenings = tuple(Happening(name, at, name, seconds=rng.choice((0.0, 0.01, 0.05))) for at, name in names)
    dead = 0.0, rng.uniform(0.6, 5.0)
    if first:
        return msgspec.structs.replace(made, happenings=made.happenings + happenings, dead=dead)
    return msgspec.structs.replace(
        made, happenings=happenings, dead=dead, listeners=(("l0", 0.0),), faults=(), odd="", resumes=True, acks=False
    )


def _odd(rng: random.Random, listeners: list[str]) -> str:
    """Sometimes one listener has another handler."""
    return rng.choice(listeners) if len(listeners) > 1 and rng.random() < 0.1 else ""


def _happenings(rng: random.Random) -> tuple[Happening, ...]:
    happenings: list[Happening] = []
    burst = rng.random() < 0.4
    for number in range(rng.randint(1, 6)):
        chance = rng.random()
        at = rng.uniform(0.3, 0.5) if burst else rng.uniform(0.0, 2.5)
        seconds = rng.choice((0.0, 0.01, 0.05, 0.2, 0.2, 0.8, 0.8, 2.5))
        if chance < 0.15 and happenings:
            earlier = rng.choice(happenings)
            content = earlier.content if rng.random() < 0.8 else 1
            happenings.append(
                msgspec.structs.replace(
                    earlier, name=f"e{number}", at=min(earlier.at + rng.uniform(0, 4), 6.0), content=content
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
                failures=rng.choice((1, 1, 2, 5)) if rng.random() < 0.15 else 0,
                rejected=rng.random() < 0.05,
                poison=rng.random() < 0.03,
            )
        )
    return tuple(happenings)


def _retention(rng: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes the source removes entries that a restarting listener would still have read."""
    if rng.random() >= 0.1:
        return ()
    at = rng.uniform(0.5, 3.5)
    killed_at = max(0.0, at - rng.uniform(0.0, 1.0))
    return (
        Fault("f8", killed_at, rng.choice((0.3, 1.2, 2.5)), "kill", rng.choice(listeners)),
        Fault("f9", at, 0.0, "retention", "source"),
    )


def _stops(rng: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """If the source sends nothing again, orderly stops are what could lose events."""
    if rng.random() >= 0.6:
        return ()
    return tuple(
        Fault(f"s{number}", rng.uniform(0.2, 3.0), 0.0, "stop", rng.choice(listeners))
        for number in range(rng.choice((1, 1, 2, 3)))
    )


def _clock_back(rng: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes Redis' clock goes back, by more than any duration in the run, while an owner is killed."""
    if rng.random() >= 0.05:
        return ()
    at = rng.uniform(0.4, 2.5)
    killed_at = max(0.0, at + rng.uniform(-0.5, 0.5))
    return (
        Fault("f10", at, 0.0, "clock back", "redis"),
        Fault("f11", killed_at, rng.choice((0.3, 1.2, 2.5)), "kill", rng.choice(listeners)),
    )


def _neighbours(rng: random.Random, count: int) -> tuple[Happening, ...]:
    """Sometimes an event that kills its owners is one among many that are held at the same moment."""
    if rng.random() >= 0.04:
        return ()
    size = rng.randint(6, 14)
    poison = rng.randrange(size)
    return tuple(
        Happening(
            name=f"e{count + number}",
            at=rng.uniform(0.3, 0.4),
            event_id=f"e{count + number}",
            seconds=rng.choice((0.05, 0.2, 0.8)),
            poison=number == poison,
        )
        for number in range(size)
    )


def _restored(rng: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes PostgreSQL goes back, mostly while listeners run."""
    if rng.random() >= 0.1:
        return ()
    at, seconds = rng.uniform(0.2, 2.5), rng.choice((0.1, 0.7, 1.2, 2.0, 3.0))
    restored = Fault("g0", at, seconds, rng.choice(RESTORES), "postgres")
    if rng.random() < 0.65:
        return (restored,)
    killed_at = max(0.0, at + seconds - rng.uniform(0.0, 0.3))
    kills = [Fault(f"g{1 + n}", killed_at, rng.choice((0.4, 0.8)), "kill", one) for n, one in enumerate(listeners)]
    return (restored, *kills)


def _journal_set_back(
    rng: random.Random, listeners: list[str], count: int
) -> tuple[tuple[Fault, ...], tuple[Happening, ...]]:
    """Sometimes the journal goes back to a backup, or is lost, after some events and before others.

    Listeners may be down or frozen meanwhile, and the producer may have been restarted since the backup.
    """
    if rng.random() >= 0.1:
        return (), ()
    at, seconds = rng.uniform(0.2, 2.0), rng.choice((0.1, 0.4, 0.8, 1.2, 2.0))
    back_at = at + seconds
    faults = [Fault("j0", at, seconds, rng.choices(JOURNAL_RESTORES, (4, 1))[0], "source")]
    if rng.random() < 0.3:
        faults.append(Fault("j1", at + 0.1 * seconds, 0.2 * seconds, "down", "source"))
    for number, one in enumerate(listeners, 2):
        if rng.random() < 0.4:
            away_at = max(0.0, back_at - rng.uniform(0.0, 0.5))
            what = rng.choice(("kill", "kill", "freeze", "stop"))
            faults.append(Fault(f"j{number}", away_at, rng.choice((0.3, 0.8, 2.0)), what, one))
    times = [at + seconds * rng.random() for _ in range(rng.randint(1, 3))]
    times += [back_at + 0.4 + rng.uniform(0.0, 1.5) for _ in range(rng.randint(0, 4))]
    published = [
        Happening(f"e{number}", when, f"e{number}", seconds=rng.choice((0.0, 0.05, 0.2, 0.8)))
        for number, when in enumerate(times, count)
    ]
    return tuple(faults), tuple(published)


def _cut_off_from_both(rng: random.Random, listeners: list[str]) -> tuple[Fault, ...]:
    """Sometimes one listener reaches neither place, and mostly something happens to Redis meanwhile."""
    if rng.random() >= 0.08:
        return ()
    target, at = rng.choice(listeners), rng.uniform(0.3, 2.0)
    faults = [
        Fault(f"f{6 + number}", at + rng.uniform(0.0, 0.5), rng.choice((2.5, 4.0)), what, target, server)
        for number, server in enumerate(("redis", "postgres"))
        for what in (rng.choice(("refused", "silent", "deaf")),)
    ]
    if rng.random() < 0.7:
        what = rng.choice(REDIS_FAULTS)
        faults.append(Fault("f5", at + rng.uniform(0.0, 1.0), rng.choice((0.3, 1.2)), what, "redis"))
    return tuple(faults)


def _long_outage(rng: random.Random) -> tuple[Fault, ...]:
    """Sometimes PostgreSQL, or its table of events, is out of reach for longer than all attempts take."""
    if rng.random() >= 0.1:
        return ()
    what = rng.choice(("locked", "locked", *POSTGRES_FAULTS))
    return (Fault("f10", rng.uniform(0.3, 2.5), rng.choice((4.0, 8.0)), what, "postgres"),)


def _fault(rng: random.Random, number: int, listeners: list[str]) -> Fault:
    at = rng.uniform(0.0, 3.0)
    seconds = rng.choice((0.05, 0.3, 0.7, 1.2, 1.2, 2.5, 4.0))
    name = f"f{number}"
    match rng.choices(("process", "link", "redis", "postgres", "source", "disk"), (5, 5, 4, 4, 1, 1))[0]:
        case "process":
            what = rng.choice(PROCESS_FAULTS)
            return Fault(name, at, seconds, what, rng.choice(listeners))
        case "link":
            what, server = rng.choice(LINK_FAULTS), rng.choice(("redis", "postgres"))
            return Fault(name, at, seconds, what, rng.choice(listeners), server)
        case "redis":
            return Fault(name, at, seconds, rng.choice(REDIS_FAULTS), "redis")
        case "postgres":
            return Fault(name, at, seconds, rng.choice(POSTGRES_FAULTS), "postgres")
        case "source":
            return Fault(name, at, seconds, rng.choice(SOURCE_FAULTS), "source")
        case _:
            return Fault(name, at, seconds, "full", rng.choice(listeners), "disk")
