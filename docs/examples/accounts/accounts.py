"""Transfers between accounts, by SQLAlchemy in the transaction of the row. Run it: HANDLER=accounts:app unlost up"""

from decimal import Decimal

import msgspec
from sqlalchemy import CheckConstraint, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unlost import App, Reject

app = App()


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("balance >= 0"),)
    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[Decimal]


class Transfer(msgspec.Struct):
    sender: str
    receiver: str
    amount: Decimal


@app.on("transfer")
async def transfer(order: Transfer, session: AsyncSession) -> None:
    """Both accounts and the row of the event are committed together, or none of them."""
    # Always locked in the same order, so that two transfers never wait for each other.
    query = select(Account).where(Account.name.in_([order.sender, order.receiver])).order_by(Account.name)
    accounts = {one.name: one for one in await session.scalars(query.with_for_update())}
    if len(accounts) < 2:
        raise Reject("one of the accounts does not exist")
    if accounts[order.sender].balance < order.amount:
        raise Reject(f"{order.sender} has less than {order.amount}")
    accounts[order.sender].balance -= order.amount
    accounts[order.receiver].balance += order.amount
