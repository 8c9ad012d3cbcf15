"""Hunt for schedules that break the law.

    python -m tests.simulation --schedules 20000 --jobs 2     try the seeds 0 … 19999
    python -m tests.simulation --replay 659                   run one seed and print every step
    python -m tests.simulation --replay 659 --drop f1 e2 l2   the same without these faults, events, listeners
    python -m tests.simulation --replay 659 --mutate NAME     the same with a mistake built into the protocol
    python -m tests.simulation --mutate NAME --schedules 1500 look for a seed that finds this mistake

A schedule that breaks the law is shrunk, and printed as the command that replays it.
"""

import argparse
import os
import sys
import time

from tests.simulation.hunt import KINDS, hunt
from tests.simulation.mutations import MUTATIONS, mutated
from tests.simulation.order_mutations import ORDER_MUTATIONS
from tests.simulation.partition_mutations import PARTITION_MUTATIONS
from tests.simulation.run import run
from tests.simulation.schedule import Schedule
from tests.simulation.shrink import shrink
from tests.simulation.topic_mutations import TOPIC_MUTATIONS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=1_000_000, help="how many to run (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one for each core)")
    parser.add_argument("--stop-after", type=int, default=5, help="stop after this many findings (default 5)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed and print every step")
    parser.add_argument("--drop", nargs="*", default=[], metavar="NAME", help="what to leave out of it")
    parser.add_argument(
        "--mutate", default="", choices=["", *MUTATIONS, *ORDER_MUTATIONS, *PARTITION_MUTATIONS, *TOPIC_MUTATIONS],
        help="build this mistake in", metavar="NAME",
    )  # fmt: skip
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--ordered", dest="kind", action="store_const", const="ordered", default="usual",
        help="schedules of the ordered kind: events with keys",
    )  # fmt: skip
    kinds.add_argument(
        "--partitioned", dest="kind", action="store_const", const="partitioned",
        help="schedules of the partitioned kind: each listener reads a share of the stream",
    )  # fmt: skip
    kinds.add_argument(
        "--topic", dest="kind", action="store_const", const="topic",
        help="schedules of a topic of Kafka, whose partitions the listeners share",
    )  # fmt: skip
    options = parser.parse_args()
    with mutated(options.mutate):
        if options.replay is not None:
            return replay(KINDS[options.kind](options.replay).without(options.drop))
        return search(options)


def replay(plan: Schedule) -> int:
    """Run one schedule and print every step."""
    verdict = run(plan, traced=True)
    for thing in (*plan.listeners, *plan.happenings, *plan.faults):
        print(thing)
    print(f"{plan.work}, {'resuming' if plan.resumes else 'not resuming'} source")
    print("\n".join(verdict.trace))
    print(f"\nBROKEN: {verdict.broken}" if verdict.broken else f"\nthe law held, for {verdict.seconds:.1f} s")
    return 1 if verdict.broken else 0


def search(options: argparse.Namespace) -> int:
    """Run many schedules. Shrink and print those that break the law."""
    started = time.monotonic()
    found = tried = 0

    def progress(done: int) -> None:
        nonlocal tried
        tried = done
        rate = done / (time.monotonic() - started)
        end = "\r" if sys.stderr.isatty() else "\n"
        if sys.stderr.isatty() or done % 5_000 == 0:
            print(
                f"{done:,} of {options.schedules:,} schedules, {rate:,.0f}/s, {found} found", end=end, file=sys.stderr
            )

    kind = "" if options.kind == "usual" else f" --{options.kind}"
    mistake = kind + (f" --mutate {options.mutate}" if options.mutate else "")
    for finding in hunt(
        options.seed, options.schedules, jobs=options.jobs, mutation=options.mutate, kind=options.kind,
        progress=progress,
    ):  # fmt: skip
        found += 1
        plan = KINDS[options.kind](finding.seed)
        dropped = shrink(plan, lambda smaller: bool(run(smaller).broken))
        print(f"\nseed {finding.seed}: {finding.broken}")
        drop = f" --drop {' '.join(dropped)}" if dropped else ""
        print(f"  python -m tests.simulation --replay {finding.seed}{mistake}{drop}")
        if found >= options.stop_after:
            break
    seconds = time.monotonic() - started
    print(f"\n{tried:,} schedules in {seconds:.0f} s: {found} broke the law")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
