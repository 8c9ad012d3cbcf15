"""The rule that places must intersect, in every order of steps and faults for two listeners.

The product's own ``next_step`` and ``intersects`` drive the worlds below. No listener is killed or frozen. Then two
listeners never handle one event at once, and some listener can always go on.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from unlost.listener.claims.quorum import Step, View, intersects, next_step

P = "postgres:1"


class Listener(NamedTuple):
    phase: str = "idle"
    held: frozenset[str] = frozenset()
    redis: int | None = 0
    looked: bool = True
    moving: bool = False


class World(NamedTuple):
    faults: int
    redis: int = 0
    links: tuple[bool, ...] = (True, True)
    claims: frozenset[tuple[str, int]] = frozenset()
    declared: tuple[frozenset[str], ...] = (frozenset({"redis:0"}),) * 2
    listeners: tuple[Listener, ...] = (Listener(),) * 2
    stored: bool = False


Decide = Callable[[View], Step | None]


def put(items: tuple, i: int, value: object) -> tuple:
    return (*items[:i], value, *items[i + 1 :])


def faults(w: World) -> Iterator[World]:
    if w.faults:
        for i, up in enumerate(w.links):
            yield w._replace(links=put(w.links, i, not up), faults=w.faults - 1)
        gone = frozenset(claim for claim in w.claims if not claim[0].startswith("redis"))
        yield w._replace(redis=w.redis + 1, claims=gone, faults=w.faults - 1)


def steps(w: World, i: int, decide: Decide, *, look: bool) -> Iterator[World]:  # noqa: C901  one rule a line
    me, mine = w.listeners[i], w.declared[i]
    peers = tuple(d for j, d in enumerate(w.declared) if j != i)
    connected = me.redis is not None and w.links[i] and me.redis == w.redis
    view = View(mine, peers, None if me.redis is None else f"redis:{me.redis}", P)

    def become(world: World = w, **changes: Any) -> World:
        return world._replace(listeners=put(world.listeners, i, me._replace(**changes)))

    def backends(place: str) -> bool:
        return place == P or (connected and place == f"redis:{me.redis}")

    def free(place: str) -> bool:
        return all(owner == i for at, owner in w.claims if at == place)

    def claim(place: str) -> World:
        return become(w._replace(claims=w.claims | {(place, i)}), held=me.held | {place})

    def let_go(**changes: Any) -> World:
        kept = frozenset((at, owner) for at, owner in w.claims if owner != i or not backends(at))
        return become(w._replace(claims=kept, **changes), phase="idle", held=frozenset())

    if me.redis is not None and not connected:
        yield become(redis=None)
    if me.redis is None and w.links[i]:
        yield become(redis=w.redis)
    step = decide(view)
    if step and step.urgent and not me.moving:
        yield become(moving=True, looked=False)
    if step and (me.moving or not step.urgent):
        missing = [p for p in step.replicate if me.phase != "idle" and p not in me.held]
        for place in missing[:1]:
            if backends(place) and free(place):
                yield claim(place)
            elif place == P:
                yield let_go()
        if not missing:
            world = become(looked=not look, moving=False)
            yield world._replace(declared=put(w.declared, i, step.declare))
    if not step and me.moving:
        yield become(moving=False)
    if not me.looked and not me.moving and intersects(mine, peers):
        yield become(looked=True)
    open_now = me.looked and not me.moving
    if me.phase == "idle" and open_now and not w.stored:
        yield become(phase="claiming")
    if me.phase == "claiming":
        missing = sorted(mine - me.held, key=lambda place: place == P)
        for place in missing[:1]:
            if backends(place):
                yield claim(place) if free(place) else let_go()
        if not missing:
            yield become(phase="claimed")
    if me.phase == "claimed" and open_now:
        if not mine <= me.held:
            yield become(phase="claiming")
        elif w.stored:
            yield let_go()
        else:
            yield become(phase="running")
    if me.phase == "running":
        yield let_go(stored=True)


def explore(fault_count: int, decide: Decide = next_step, *, look: bool = True) -> str:
    start = World(fault_count)
    seen, queue = {start}, deque([start])
    while queue:
        w = queue.popleft()
        if sum(one.phase == "running" for one in w.listeners) > 1:
            return "twice"
        following = [world for i in range(2) for world in steps(w, i, decide, look=look)]
        if not w.stored and not following:
            return "stuck"
        for world in (*following, *faults(w)):
            if world not in seen:
                seen.add(world)
                queue.append(world)
    return f"safe in {len(seen)} worlds"


def test_two_listeners_never_handle_one_event_at_once_and_never_get_stuck():
    assert explore(2).startswith("safe in "), explore(2)


def without_replicating(view: View) -> Step | None:
    step = next_step(view)
    return step and Step((), step.declare, step.urgent)


@pytest.mark.parametrize(
    ("decide", "look"),
    [(without_replicating, True), (next_step, False)],
    ids=["declares what is not replicated", "does not look again"],
)
def test_the_check_bites(decide: Decide, look: bool):
    assert explore(2, decide, look=look) == "twice"
