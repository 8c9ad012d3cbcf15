"""Tests of the simulation itself: it finds each deliberate mistake in the protocol.

``FOUND_BY`` names a seed that found the mistake, so that this is quick. If that seed misses it after some change, the
seeds from 0 on are tried, and the number should be renewed. Mistakes that random schedules find too rarely have a
schedule written by hand.
"""

from collections.abc import Iterator

import msgspec
import pytest

from tests.simulation.mutations import MUTATIONS, mutated
from tests.simulation.run import run
from tests.simulation.schedule import Fault, Happening, Schedule, schedule
from tests.simulation.shrink import shrink

LONGEST_SEARCH = 1_500
SHAKEN = 30
"""A schedule written by hand is tried with this many different random delays."""
SEED_STEP = 4
"""Seeds that differ by a multiple of this have the same number of workers (``workers_of``)."""

FOUND_BY = {
    "effect-before-commit": 229, "effect-marked-early": 4, "effect-without-lease": 4, "effect-forgotten": 49,
    "left-behind": 7726, "any-handler": 20, "agreed-for-ever": 918,
    "forget-the-fence": 1, "foreign-row-is-mine": 10, "done-before-row": 0, "dead-before-letter": 1, "no-letter":
    1, "drop-standby": 9, "standby-is-settled": 2, "reset-epoch": 20, "never-renew": 6, "lease-ignored": 714,
    "lost-unseen": 431, "lost-is-forgotten": 75, "meet-nobody": 87, "no-replicate": 9,
    "give-up-early": 135, "any-place": 4549, "no-look": 68, "no-last-look": 714,
    "one-place": 35, "dead-untold": 1, "cursor-at-receipt": 2,
    "cursor-any-order": 2, "start-from-now": 0, "token-per-host": 20, "takeover-without-lease": 1,
    "stop-leaves-the-rest": 233, "stop-leaves-copies": 1214, "stopped-forbids": 138, "never-healed": 138,
    "healed-at-offer": 138, "announced-unsettled": 2, "announced-half-settled": 2, "any-bytes": 6, "left-unread": 2,
    "gap-untold": 2, "gap-is-a-wall": 529, "unregistered": 32,
    "outage-counts": 6, "probe-without-locks": 281,
    "trusts-any-store": 143, "saves-in-any-store": 315, "not-read-again": 426, "old-watermark": 426,
    "version-unseen": 426,
    "not-set-back": 2, "gap-told-late": 25, "number-alone": 2, "further-by-number": 107,
    "acknowledged-at-receipt": 38, "never-acknowledged": 38, "clock-back-holds": 358, "clock-back-ends": 1520,
}  # fmt: skip


BACK_IN_THE_MEMBERSHIP = Schedule(
    seed=14,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.75)),
    happenings=(Happening("e0", 0.6, "e0", seconds=1.9, failures=1),),
    faults=(
        Fault("f0", 1.0, 2.4, "silent", "l0", "postgres"),
        Fault("f1", 1.2, 5.0, "refused", "l1", "redis"),
        Fault("f2", 3.1, 1.0, "deaf", "l0", "redis"),
    ),
)
"""One keeps its claims in Redis while its membership row expires; the other moves to PostgreSQL; the first returns."""

REPLACED_WHILE_CUT_OFF = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.06), ("l1", 0.0)),
    happenings=(
        Happening("e0", 1.28, "e0", seconds=0.01),
        Happening("e1", 1.23, "e1", seconds=0.8),
        Happening("e2", 1.52, "e2", seconds=0.2),
        Happening("e3", 1.8, "e3", seconds=0.2, failures=2),
        Happening("e4", 1.77, "e4", failures=1, rejected=True),
    ),
    faults=(
        Fault("f0", 1.59, 0.05, "freeze", "l0", ""),
        Fault("f1", 0.46, 0.3, "kill", "l1", ""),
        Fault("f2", 1.83, 2.5, "silent", "l1", "redis"),
        Fault("f3", 1.59, 2.5, "silent", "l1", "postgres"),
    ),
)
"""One is cut off from both servers for longer than its leases; the other takes over and buries; the first returns."""

FULL_FOR_LONG = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.3)),
    happenings=(Happening("e0", 0.2, "e0", failures=3),),
    faults=(
        Fault("f0", 0.0, 8.0, "full", "l0", "disk"),
        Fault("f1", 1.0, 8.0, "refused", "l0", "redis"),
        Fault("f2", 1.0, 8.0, "refused", "l0", "postgres"),
        Fault("f3", 2.0, 0.0, "flush", "redis"),
    ),
)
"""One cannot write its letter. Meanwhile it is cut off, Redis forgets, and the other stores the event."""

KILLED_UNREGISTERED = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.7)),
    happenings=(Happening("e0", 0.6, "e0", seconds=0.6, rejected=True),),
    faults=(
        Fault("f0", 1.0, 3.0, "down", "postgres"),
        Fault("f1", 1.65, 3.5, "kill", "l0"),
        Fault("f2", 1.65, 0.0, "flush", "redis"),
    ),
)
"""One buries an event while PostgreSQL is away, and is killed. Redis forgets, and the other stores the event."""

STOPPED_WHILE_PAUSED = Schedule(
    seed=0,
    work="plain",
    resumes=False,
    listeners=(("l0", 0.0),),
    happenings=(
        Happening("e0", 0.4, "e0", rejected=True),
        Happening("e1", 0.8, "e1"),
        Happening("e2", 1.2, "e2"),
    ),
    faults=(Fault("f0", 0.0, 2.0, "full", "l0", "disk"), Fault("f1", 1.5, 0.0, "stop", "l0")),
)
"""No letter can be written, so nothing is read. When the stop comes, frames wait unread in the connection."""

STOPPED_WITH_UNREAD = Schedule(
    seed=0,
    work="plain",
    resumes=False,
    listeners=(("l0", 0.0), ("l1", 0.0)),
    happenings=tuple(Happening(f"e{n}", 1.0 + n / 50, f"e{n}") for n in range(12)),
    faults=(
        Fault("f0", 0.8, 4.0, "down", "postgres"),
        Fault("f1", 1.6, 0.0, "stop", "l0"),
        Fault("f2", 1.7, 2.0, "kill", "l1"),
    ),
    affinity=True,
)
"""One waits for the other to settle an event, and is stopped before it reads the outcome. The other is killed."""

WENT_BACK_BEFORE_IT_WAS_ACKNOWLEDGED = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    acks=True,
    listeners=(("l0", 0.0),),
    happenings=(Happening("e0", 0.5, "e0", seconds=0.6),),
    faults=(Fault("f0", 0.8, 3.5, "down", "source"), Fault("f1", 0.9, 1.0, "restore data", "postgres")),
)
"""A row is stored while the broker is away. Before it is back, PostgreSQL goes back and loses the row."""

CUT_OFF_FROM_BOTH = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.75)),
    happenings=(Happening("e0", 0.7, "e0", seconds=1.9, rejected=True),),
    faults=(
        Fault("f0", 1.0, 4.0, "refused", "l0", "redis"),
        Fault("f1", 1.0, 4.0, "refused", "l0", "postgres"),
        Fault("f2", 1.1, 0.0, "flush", "redis"),
    ),
)
"""One rejects an event while it is cut off and Redis has forgotten its claim. By then the other has won it."""

WAITS_OFF_THE_ROLL = Schedule(
    seed=3,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.75)),
    happenings=(Happening("e0", 0.6, "e0", seconds=1.9), Happening("e1", 0.6, "e1", seconds=0.2)),
    faults=(
        Fault("f0", 0.8, 5.0, "silent", "l0", "postgres"),
        Fault("f1", 1.0, 7.0, "refused", "l1", "redis"),
    ),
)
"""An event waits for the only worker of a listener whose membership row expires. The other claims it elsewhere."""

POISON_AND_NEIGHBOURS = Schedule(
    seed=8,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0),),
    happenings=tuple(Happening(f"e{n}", 0.3, f"e{n}", seconds=0.2, poison=n == 0) for n in range(12)),
    faults=(),
)
"""One event kills every owner, and twice it does so while others run beside it."""

RESTORED_WHILE_DOWN = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0),),
    happenings=(Happening("e0", 1.5, "e0"),),
    faults=(
        Fault("f0", 1.4, 2.2, "restore dump", "postgres"),
        Fault("f1", 3.5, 1.0, "kill", "l0"),
    ),
)
"""While no listener runs, PostgreSQL is set back to before it stored an event, which Redis remembers as done."""

RESTORED_AFTER_HEALING = Schedule(
    seed=0,
    work="plain",
    resumes=False,
    listeners=(("l0", 0.0),),
    happenings=(Happening("e0", 0.9, "e0", seconds=1.9),),
    faults=(
        Fault("f0", 1.2, 0.4, "stop", "l0"),
        Fault("f1", 2.6, 5.0, "restore data", "postgres"),
    ),
)
"""A stop leaves a letter, the next start stores its event, and PostgreSQL is set back to before that."""

STOPPED_WHILE_HEALING = Schedule(
    seed=0,
    work="plain",
    resumes=False,
    listeners=(("l0", 0.0),),
    happenings=(Happening("e0", 0.9, "e0", seconds=1.9),),
    faults=(Fault("f0", 1.2, 0.0, "stop", "l0"), Fault("f1", 3.2, 0.0, "stop", "l0")),
)
"""A stop leaves a letter. The next start tries it again, and is stopped before the handler has ended."""

FORGOTTEN_BY_REDIS = Schedule(
    seed=0,
    work="transaction",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.0)),
    happenings=(Happening("e0", 0.6, "e0", failures=3),),
    faults=(Fault("f0", 1.35, 0.0, "flush", "redis"),),
)
"""One buries an event, and PostgreSQL knows it. Redis forgets it. The other wins it; its handler would succeed."""

SLOW_TO_REPLICATE = Schedule(
    seed=8,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.3)),
    happenings=(Happening("e0", 0.6, "e0", seconds=3.0),),
    faults=(Fault("f0", 1.0, 6.0, "refused", "l1", "redis"), Fault("f1", 1.1, 4.0, "slow", "l0", "postgres")),
)
"""One moves to PostgreSQL. The other runs an event and declares PostgreSQL, too, but the first never learns it."""

SET_BACK_TWICE_AT_ONCE = Schedule(
    seed=4,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.25), ("l1", 0.0), ("l2", 0.0), ("l3", 0.0)),
    happenings=(Happening("e0", 0.3, "e0"), Happening("e1", 0.7, "e1"), Happening("e2", 2.72, "e2")),
    faults=(
        Fault("f0", 0.6, 1.8, "restore journal", "source"),
        Fault("f1", 2.35, 0.7, "freeze", "l0"),
        *(Fault(f"f{n + 1}", 2.6, 2.0, "slow", f"l{n}", "postgres") for n in (1, 2, 3)),
    ),
)
"""Some are slow to set the group's cursor back. Another one does so, and advances it."""

WOKEN_LATE = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 3.2)),
    happenings=(Happening("e0", 1.2, "e0", seconds=0.2, failures=1),),
    faults=(Fault("f0", 0.5, 2.9, "refused", "l0", "redis"), Fault("f1", 1.5, 2.1, "freeze", "l0")),
)
"""One holds an event only in PostgreSQL and is frozen. Another, in Redis, stores it. The first may use Redis again."""

BACK_IN_REDIS = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0), ("l1", 0.75)),
    happenings=(Happening("e0", 0.6, "e0", seconds=1.9, failures=2),),
    faults=(Fault("f0", 1.0, 3.2, "refused", "l0", "redis"),),
)
"""One claims an event in Redis, keeps it in PostgreSQL for longer than a lease, and returns to Redis."""

STOPPED_AFTER_A_GAP = Schedule(
    seed=3,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0),),
    happenings=tuple(Happening(f"e{n}", 0.65 + n / 50, f"e{n}", seconds=1.5) for n in range(3)),
    faults=(Fault("f0", 0.6, 0.2, "restore journal", "source"), Fault("f1", 2.0, 0.0, "stop", "l0")),
)
"""The journal has lost what a listener holds. The listener knows it, and is stopped."""

FAILS_FOR_EVER = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0),),
    happenings=(Happening("e0", 0.5, "e0", seconds=2.5), Happening("e1", 0.5, "e1", failures=1)),
    faults=(),
)
"""One event always takes too long, another fails once."""

NEEDS_WHAT_IS_AWAY = Schedule(
    seed=0,
    work="plain",
    resumes=True,
    listeners=(("l0", 0.0),),
    happenings=(
        *(Happening(f"e{n}", 0.3 + n / 100, f"e{n}") for n in range(10)),
        *(Happening(f"e{n}", 1.0 + n / 10, f"e{n}") for n in range(10, 14)),
    ),
    faults=(),
    dead=(0.0, 4.0),
)
"""Nothing succeeds for some seconds. The last events come while their route pauses."""

WRITTEN_FOR = {
    "pause-forgets": FAILS_FOR_EVER,
    "pause-begins-anew": FAILS_FOR_EVER,
    "route-never-pauses": NEEDS_WHAT_IS_AWAY,
    "parked-are-forgotten": NEEDS_WHAT_IS_AWAY,
    "declare-before-replicate": SLOW_TO_REPLICATE,
    "declared-once-told": SLOW_TO_REPLICATE,
    "waits-for-the-settled": WOKEN_LATE,
    "stale-replicate": BACK_IN_REDIS,
    "reset-from-anywhere": SET_BACK_TWICE_AT_ONCE,
    "stop-hands-back-the-lost": STOPPED_AFTER_A_GAP,
    "starts-without-doubt": RESTORED_WHILE_DOWN,
    "never-reopened": RESTORED_AFTER_HEALING,
    "stop-keeps-what-heals": STOPPED_WHILE_HEALING,
    "stop-resolves-what-heals": STOPPED_WHILE_HEALING,
    "row-beside-a-burial": FORGOTTEN_BY_REDIS,
    "stop-leaves-what-came": STOPPED_WHILE_PAUSED,
    "stop-leaves-unread": STOPPED_WITH_UNREAD,
    "buries-unconfirmed": CUT_OFF_FROM_BOTH,
    "stale-view": WAITS_OFF_THE_ROLL,
    "neighbours-condemned": POISON_AND_NEIGHBOURS,
    "confirmed-once": FULL_FOR_LONG,
    "ran-out-is-replicated": REPLACED_WHILE_CUT_OFF,
    "open-outside-the-membership": BACK_IN_THE_MEMBERSHIP,
    "unread": KILLED_UNREGISTERED,
    "acknowledges-the-lost": WENT_BACK_BEFORE_IT_WAS_ACKNOWLEDGED,
}


def schedules_for(name: str) -> Iterator[Schedule]:
    if name in WRITTEN_FOR:
        written = WRITTEN_FOR[name]
        tried = [msgspec.structs.replace(written, seed=written.seed + SEED_STEP * more) for more in range(SHAKEN)]
    else:
        tried = [schedule(FOUND_BY[name])]
    for plan in tried:
        for affinity in (plan.affinity, not plan.affinity):
            yield msgspec.structs.replace(plan, affinity=affinity)
    yield from map(schedule, range(LONGEST_SEARCH))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_found(name: str) -> None:
    with mutated(name):
        assert any(run(plan).broken for plan in schedules_for(name)), f"nothing found that {MUTATIONS[name][0]}"


def test_plans_written_by_hand_break_nothing_by_themselves() -> None:
    assert {run(plan).broken for plan in WRITTEN_FOR.values()} == {""}


def test_a_failing_schedule_is_made_small() -> None:
    plan = schedule(FOUND_BY["no-replicate"])
    with mutated("no-replicate"):
        dropped = shrink(plan, lambda smaller: bool(run(smaller).broken))
        small = plan.without(dropped)
        assert run(small).broken
        assert not any(run(small.without([name])).broken for name in small.names())
    assert len(small.names()) < len(plan.names())


def test_every_mistake_is_undone_afterwards() -> None:
    for name in MUTATIONS:
        with mutated(name):
            pass
    assert run(schedule(0)).broken == ""
