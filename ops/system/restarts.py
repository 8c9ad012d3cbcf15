"""Restarts the processes of a system that ended, up to a limit."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unlost.ops.system.child import Child, ChildFailed

RESTARTS = 5
RESTARTS_WITHIN = 60.0
LOOK_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class StartStep:
    """Something that just happened, to be shown to the user."""

    name: str
    what: str
    well: bool = True
    detail: str = ""


@dataclass(slots=True)
class Watched:
    """A process, and how it is started again. ``start`` returns what it did, if that was no plain restart."""

    child: Callable[[], Child]
    start: Callable[[], str | None]
    deaths: list[float] = field(default_factory=list)


def keep_running(watched: Sequence[Watched], say: Callable[[StartStep], None], stopping: threading.Event) -> bool:
    """Restart what ends until a stop is requested; ``False`` if a process keeps dying."""
    while not stopping.wait(LOOK_EVERY):
        for one in watched:
            if not one.child().is_running and not _revive(one, say, stopping):
                return False
    return True


def _revive(one: Watched, say: Callable[[StartStep], None], stopping: threading.Event) -> bool:
    child = one.child()
    now = time.monotonic()
    one.deaths = [death for death in one.deaths if now - death < RESTARTS_WITHIN] + [now]
    say(StartStep(child.name, f"ended with code {child.exit_code}", well=False, detail=child.tail()))
    if len(one.deaths) > RESTARTS:
        why = f"ended {len(one.deaths)} times in {RESTARTS_WITHIN:g} s, giving up"
        say(StartStep(child.name, why, well=False))
        return False
    if stopping.wait(0.5 * 2 ** (len(one.deaths) - 1)):
        return True
    try:
        did = one.start()
    except ChildFailed as failed:  # the others run on, and this one is tried again
        say(StartStep(child.name, "did not start again", well=False, detail=str(failed)))
    else:
        say(StartStep(child.name, did or "restarted"))
    return True
