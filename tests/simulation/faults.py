"""The faults, and how they are healed. Each fault returns the function that heals it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.schedule import JOURNAL_RESTORES, LINK_FAULTS, PROCESS_FAULTS, Fault

if TYPE_CHECKING:
    from tests.simulation.run import Play

CLOCK_BACK = 3600.0
RESTORING = 0.3
Heal = Callable[[], None]


def strike(play: Play, fault: Fault) -> Heal:
    """Do the damage. Returns the function that undoes it."""
    if fault.what in PROCESS_FAULTS and fault.target in play.current:
        return _process(play, fault)
    if fault.what in LINK_FAULTS:
        server = play.scene.redis if fault.server == "redis" else play.scene.postgres
        link = server.link(fault.target)
        link.set(fault.what)
        return lambda: link.set("ok")
    match fault.target:
        case "redis":
            return _redis(play, fault)
        case "postgres":
            return _postgres(play, fault)
        case "source":
            return _source(play, fault)
    if fault.server == "disk":
        disk = play.scene.disk(fault.target)
        disk.full = True
        return lambda: setattr(disk, "full", False)
    return _nothing


def _nothing() -> None:
    pass


def _process(play: Play, fault: Fault) -> Heal:
    name = fault.target
    process = play.current[name]
    match fault.what:
        case "kill":
            play.kill(process)
            return lambda: play.start(name)
        case "freeze":
            process.freeze()
            return process.wake
        case _:
            if process.alive:
                process.stop()
            return _nothing


def _redis(play: Play, fault: Fault) -> Heal:
    redis = play.scene.redis
    match fault.what:
        case "freeze":
            redis.freeze()
            return redis.up
        case "flush":
            redis.memory.flush()
            redis.touch()
            return _nothing
        case "clock back":
            redis.turn_clock_back(CLOCK_BACK)
            return _nothing
        case "fail over":
            redis.fail_over(behind=min(fault.seconds, 1.5))
            return _nothing
        case _:
            redis.down()
            empty = fault.what == "restart empty"

            def up() -> None:
                if fault.what != "down":
                    redis.memory.restart(empty=empty)
                redis.up()

            return up


def _postgres(play: Play, fault: Fault) -> Heal:
    postgres = play.scene.postgres
    match fault.what:
        case "restore dump" | "restore data":
            return _to_be_restored(play, fault.what == "restore dump")
        case "freeze":
            postgres.freeze()
        case "crash":
            postgres.crash()
        case "locked":
            postgres.lock()
            return postgres.unlock
        case _:
            postgres.down()
            postgres.memory.end_transactions()
    return postgres.up


def _to_be_restored(play: Play, dump: bool) -> Heal:
    """Take a backup now, and restore it at the end.

    A restored dump is recognised by its version: a listener, and Redis, have seen a higher one since. A restored data
    directory, or a standby that takes over, is recognised at once.
    """
    postgres, redis = play.scene.postgres, play.scene.redis
    backup = postgres.memory.back_up()

    def restore() -> None:
        memory = postgres.memory
        known = redis.memory.stores.get(backup.generation)
        seen = -1 if known is None else min(memory.version, known.version)
        grown = memory.generation != backup.generation or seen > backup.version
        postgres.down()
        memory.restore(backup, claims_too=dump and grown)
        play.at(RESTORING, postgres.up)

    return restore


def _source(play: Play, fault: Fault) -> Heal:
    source = play.scene.source
    if fault.what == "cut":
        source.cut()
        return _nothing
    if fault.what == "retention":
        source.retain_nothing()
        return _nothing
    if fault.what in JOURNAL_RESTORES:
        copy = source.journal.back_up() if fault.what == "restore journal" else None

        def restore() -> None:
            source.restore(copy)
            play.at(RESTORING, source.up)

        return restore
    source.down()
    return source.up
