"""Makes a failing schedule small: leaves out faults, events and listeners as long as it still fails."""

from collections.abc import Callable

from tests.simulation.schedule import Schedule


def shrink(plan: Schedule, fails: Callable[[Schedule], bool]) -> list[str]:
    """The names that can be left out of a failing schedule. They are tried one by one, until none is left."""
    dropped: list[str] = []
    again = True
    while again:
        again = False
        for name in plan.without(dropped).names():
            if fails(plan.without([*dropped, name])):
                dropped.append(name)
                again = True
    return dropped
