"""Whether the events of each key came in their order, from records alone. Imports nothing of the product. Pure."""

import itertools
from collections.abc import Iterable, Mapping, Sequence


def out_of_turn(runs: Sequence[str], rows: Sequence[str], published: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each event that came before one that it must follow.

    ``runs``: the events in the order in which their handlers began, once for each run; ``rows``: in the order in which
    their rows were written. ``published``: those of each key, in order.
    """
    wrong = []
    began = {event: at for at, event in reversed([*enumerate(runs)])}
    ended = {event: at for at, event in enumerate(runs)}
    place = {event: at for at, event in enumerate(rows)}
    for key, events in published.items():
        for before, after in _neighbours([one for one in events if one in began]):
            if began[after] < ended[before]:
                wrong.append(f"{after} of {key} ran before a run of {before}")
        for before, after in _neighbours([one for one in events if one in place]):
            if place[after] < place[before]:
                wrong.append(f"{after} of {key} was stored before {before}")
        stored = [one in place for one in events]
        if stored != sorted(stored, reverse=True):
            wrong.append(f"{events[stored.index(False)]} of {key} is not stored, but one behind it is")
    return wrong


def _neighbours(events: Sequence[str]) -> Iterable[tuple[str, str]]:
    return itertools.pairwise(events)
