"""Whether events of each key ran in order, from the handler's own record alone. Imports nothing of the product. Pure.

A run is recorded when it begins. An event of a key may begin to run only after the last run of the one before it has
begun. An event that ran again, after a failure, a kill or in a replay, had to be settled before the next one began.
"""

import itertools
from collections.abc import Iterable, Mapping


def disordered(runs: Iterable[tuple[float, str]], place: Mapping[str, tuple[str, int]]) -> list[str]:
    """Return a sentence for each event that began to run before its predecessor had ended.

    ``runs``: when each run began, and of which event. ``place``: the key of each event, and its number in it.
    """
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for at, event_id in runs:
        first[event_id] = min(at, first.get(event_id, at))
        last[event_id] = max(at, last.get(event_id, at))
    keys: dict[str, list[tuple[int, str]]] = {}
    for event_id in first:
        key, number = place[event_id]
        keys.setdefault(key, []).append((number, event_id))
    wrong = []
    for key, events in sorted(keys.items()):
        events.sort()
        for (_, before), (_, after) in itertools.pairwise(events):
            if first[after] < last[before]:
                wrong.append(
                    f"{after} of the key {key} began {last[before] - first[after]:.3f} s before a run of {before}"
                )
    return wrong
