"""The tests of the example, on a real PostgreSQL: pytest docs/examples/accounts"""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from accounts import app

from unlost.testing import TestApp


@pytest.fixture
def bank(unlost_postgres: str) -> Iterator[TestApp]:
    with TestApp(app, postgres=unlost_postgres) as test:
        test.execute("drop table if exists accounts")
        test.execute("create table accounts (name text primary key, balance numeric check (balance >= 0))")
        test.execute("insert into accounts values ('ada', 10), ('bob', 0)")
        yield test


def balances(bank: TestApp) -> list[Decimal]:
    return [bank.fetchval("select balance from accounts where name = $1", name) for name in ("ada", "bob")]


def test_a_transfer_happens_once(bank: TestApp) -> None:
    order = {"sender": "ada", "receiver": "bob", "amount": "2.5"}
    outcomes = [bank.run(order, type="transfer", event_id="t1").outcome for _ in range(2)]
    assert outcomes == ["stored", "duplicate"]
    assert balances(bank) == [Decimal("7.5"), Decimal("2.5")]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"sender": "ada", "receiver": "bob", "amount": "11"}, "ada has less than 11"),
        ({"sender": "ada", "receiver": "eve", "amount": "1"}, "does not exist"),
    ],
)
def test_a_transfer_that_is_refused_moves_nothing(bank: TestApp, order: dict[str, str], why: str) -> None:
    result = bank.run(order, type="transfer")
    assert result.outcome == "rejected"
    assert why in result.error
    assert balances(bank) == [10, 0]
