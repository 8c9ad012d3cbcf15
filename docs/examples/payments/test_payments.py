"""The tests of the example: pytest docs/examples/payments"""

from typing import Any

from payments import app

from unlost.testing import TestApp

HOOK = {"hook_url": "https://hooks.test/payments"}


def test_a_payment_is_booked_and_reported(unlost_app: Any) -> None:
    test = unlost_app(app, resources=HOOK, answers={"insert into accounts": 700})
    result = test.run({"account": "ada", "cents": 200}, type="payment.taken", event_id="p-1")
    assert result.outcome == "stored"
    (report,) = result.effects
    assert (report.kind, report.url) == ("post", "https://hooks.test/payments")
    assert report.json == {"payment": "p-1", "account": "ada", "balance": 700}


def test_a_refused_payment_is_not_reported(unlost_app: Any) -> None:
    result = unlost_app(app, resources=HOOK).run({"account": "ada", "cents": 0}, type="payment.taken")
    assert (result.outcome, result.error, result.effects) == ("rejected", "nothing was paid", ())


def test_the_balance_is_right_in_a_real_database(unlost_postgres: str) -> None:
    with TestApp(app, resources=HOOK, postgres=unlost_postgres) as test:
        test.execute("create table accounts (name text primary key, cents int)")
        balances = [
            test.run({"account": "ada", "cents": cents}, type="payment.taken").effects[0].json["balance"]
            for cents in (200, 500)
        ]
        assert balances == [200, 700]
