"""Deliberate mistakes about shipping and edits. The schedules of ``shipping.py`` must find each of them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tests.simulation.fleet import Fleet, SimulatedTable
from unlost.dlq.replay import replaying as replaying_module
from unlost.listener.app.shipping import Shipping
from unlost.listener.core.errors import Transient

REACHED = {
    Shipping: ("_add", "_instance", "_sidecar", "_table", "_take_changes"),
}
"""The private names of the product on which these mistakes depend, as in ``mutations.py``."""
Patch = tuple[Any, str, Callable[[Any], Any]]


def _noted_although_it_failed(real: Any) -> Any:
    async def add(self: Shipping, letters: Any) -> None:
        with contextlib.suppress(Transient):
            await real(self, letters)

    return add


def _shared_before_it_is(_: Any) -> Any:
    async def take(self: Shipping) -> bool:
        records = await self._table.to_share(self._instance, 10)
        if records:
            await self._table.shared(records)
            self._sidecar.append(records)
        return bool(records)

    return take


async def _shares_nothing(_: Shipping) -> bool:
    return False


async def _knows_no_loss(_: SimulatedTable) -> str:
    return ""


def _of_the_original(real: Any) -> Any:
    return lambda letter, *, max_bytes, edited=None: real(letter, max_bytes=max_bytes)


SHIPPING_MUTATIONS: dict[str, tuple[str, list[Patch]]] = {
    "ship-noted-early": (
        "letters that PostgreSQL did not take count as shipped",
        [(Shipping, "_add", _noted_although_it_failed)],
    ),
    "ship-shared-early": (
        "changes count as shared before they are beside the file",
        [(Shipping, "_take_changes", _shared_before_it_is)],
    ),
    "ship-shares-nothing": (
        "changes made elsewhere never come beside the file",
        [(Shipping, "_take_changes", lambda _: _shares_nothing)],
    ),
    "ship-loss-unseen": (
        "a list that was set back is not compared with the file",
        [(SimulatedTable, "last_loss", lambda _: _knows_no_loss)],
    ),
    "edit-unleased": (
        "two may take one letter",
        [(Fleet, "held", lambda _: lambda *_: False), (Fleet, "is_late", lambda _: lambda *_: False)],
    ),
    "replay-original": (
        "a replay runs the original of an edited letter",
        [(replaying_module, "event_of", _of_the_original)],
    ),
}  # fmt: skip


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Build a mistake in."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, change in SHIPPING_MUTATIONS[name][1]:
            real = getattr(owner, attribute)
            setattr(owner, attribute, change(real))
            stack.callback(setattr, owner, attribute, real)
        yield
