"""Payments are booked, and a webhook reports each of them once it is.

Run it: EFFECT_HOSTS=hooks.example.com HOOK_URL=https://hooks.example.com/payments HANDLER=payments:app unlost up
"""

import os
from collections.abc import AsyncIterator

import msgspec

from unlost import App, Delivery, Reject, Transaction

app = App()


class Payment(msgspec.Struct):
    account: str
    cents: int


@app.lifespan
async def resources() -> AsyncIterator[dict[str, str]]:
    yield {"hook_url": os.environ.get("HOOK_URL", "https://hooks.example.com/payments")}


@app.on("payment.taken")
async def book(payment: Payment, event: Delivery, tx: Transaction, hook_url: str) -> None:
    """Book it and report it: row, booking and webhook are committed together. The webhook is sent after that."""
    if payment.cents <= 0:
        raise Reject("nothing was paid")
    balance = await tx.fetchval(
        "insert into accounts values ($1, $2) "
        "on conflict (name) do update set cents = accounts.cents + $2 returning cents",
        payment.account,
        payment.cents,
    )
    event.effects.post(hook_url, json={"payment": event.event_id, "account": payment.account, "balance": balance})
