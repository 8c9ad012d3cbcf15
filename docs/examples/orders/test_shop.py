"""The tests of the example: pytest docs/examples/orders"""

from typing import Any

import pytest
from shop import app

from unlost.testing import TestApp


class FakeMails:
    def __init__(self, fails: int = 0) -> None:
        self.sent: list[str] = []
        self.fails = fails

    async def send(self, to: str, text: str, key: str) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("no route to the mail server")
        self.sent.append(f"{to}: {text} ({key})")


def test_an_order_takes_from_the_stock(unlost_app: Any) -> None:
    test = unlost_app(app, resources={"mails": FakeMails()}, answers={"select count": 5})
    result = test.run({"sku": "a-17", "count": 2}, type="order.created")
    assert result.outcome == "stored"
    assert result.statements[-1].arguments == ("a-17", 2)


@pytest.mark.parametrize(
    ("payload", "outcome", "error"),
    [
        ({"sku": "a-17", "count": 9}, "rejected", "a-17 is sold out"),
        ({"sku": "a-17"}, "invalid", "missing required field `count`"),
    ],
)
def test_a_wrong_order_is_a_letter(unlost_app: Any, payload: Any, outcome: str, error: str) -> None:
    test = unlost_app(app, resources={"mails": FakeMails()}, answers={"select count": 5})
    result = test.run(payload, type="order.created")
    assert (result.outcome, result.attempts) == (outcome, 1)
    assert error in result.error


def test_a_mail_is_tried_again_without_waiting(unlost_app: Any) -> None:
    mails = FakeMails(fails=3)
    result = unlost_app(app, resources={"mails": mails}).run(
        {"customer": "ada", "sku": "a-17"}, type="order.shipped", event_id="shipped-1"
    )
    assert (result.outcome, result.attempts) == ("stored", 4)
    assert mails.sent == ["ada: a-17 is on its way (shipped-1)"]


def test_the_stock_is_right_in_a_real_database(unlost_postgres: str) -> None:
    with TestApp(app, resources={"mails": FakeMails()}, postgres=unlost_postgres) as test:
        test.execute("create table stock (sku text primary key, count int); insert into stock values ('a-17', 5)")
        outcomes = [test.run({"sku": "a-17", "count": count}, type="order.created").outcome for count in (2, 9, 3)]
        assert outcomes == ["stored", "rejected", "stored"]
        assert test.fetchval("select count from stock") == 0
