"""The user's code in a simulation. The schedule says what the handler of each event does."""

import asyncio
from typing import Any

from unlost import App, Transaction
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.order_key import AfterLetter

by_route, by_route_in_transaction = App(), App()
"""The same functions as routes, which declare the key of their events."""
by_policy, by_policy_in_transaction = App(), App()
"""The same, where some types have a policy of their own."""
POLICIES: dict[str, AfterLetter] = {"goes on": "continue", "stops": "stop"}
"""The policy of each of these types."""


async def plain(delivery: Delivery) -> None:
    """Runs before the row is inserted."""
    await _run(delivery, None)


async def other(delivery: Delivery) -> None:
    """Does the same, but counts as another handler."""
    await _run(delivery, None)


async def in_transaction(delivery: Delivery, connection: Any) -> None:
    """Runs in the row's transaction."""
    await _run(delivery, connection)


@by_route.otherwise(key="key")
async def route(delivery: Delivery) -> None:
    """Runs before the row is inserted."""
    await _run(delivery, None)


@by_route_in_transaction.otherwise(key="key")
async def route_in_transaction(delivery: Delivery, connection: Transaction) -> None:
    """Runs in the row's transaction."""
    await _run(delivery, connection)


for event_type, policy in POLICIES.items():
    by_policy.on(event_type, key="key", after_letter=policy)(route)
    by_policy_in_transaction.on(event_type, key="key", after_letter=policy)(route_in_transaction)
by_policy.otherwise(key="key")(route)
by_policy_in_transaction.otherwise(key="key")(route_in_transaction)


async def _run(delivery: Delivery, connection: Any) -> None:
    process: Any = asyncio.get_running_loop()
    await process.handle(delivery, connection)
