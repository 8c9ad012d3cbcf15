"""``unlost handlers``: the routes in the order in which they are asked, as text and as JSON."""

import json

from click.testing import CliRunner

from unlost import App, Backoff, Delivery, Transaction
from unlost.listener.app.handlers import handlers

app = App()
NONE = {"retry": None, "timeout": None, "concurrency": None}


def urgent(event: Delivery) -> bool:
    return True


@app.on("order.*", retry=Backoff(attempts=8, first=1, longest=60), timeout=20, concurrency=4)
async def note(event: Delivery) -> None: ...


@app.on("order.created", "order.changed", when=urgent)
async def reserve(tx: Transaction) -> None: ...


@app.on("order.created", when=lambda event: True)
def slowly(event: Delivery) -> None: ...


odd = App()
odd.on("order.*")(note)
odd.on("*.created")(slowly)


async def handle(event: Delivery) -> None: ...


def shown(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(handlers, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_the_most_specific_stand_first() -> None:
    lines = shown(f"{__name__}:app").splitlines()
    assert [line.split() for line in lines] == [
        ["pattern", "function", "form", "when", "retry", "timeout", "concurrency"],
        ["order.changed", "reserve", "transaction", "urgent", "-", "-", "-"],
        ["order.created", "reserve", "transaction", "urgent", "-", "-", "-"],
        ["order.created", "slowly", "plain", f"test_listing.py:{slowly.__code__.co_firstlineno}", "-", "-", "-"],
        ["order.*", "note", "plain", "-", *["8", "after", "1,", "2,", "4,", "..,", "60", "s", "at", "most"], "20", "4"],
        ["otherwise", "-", "store", "-", "-", "-", "-"],
    ]


def test_programs_get_the_same_as_json() -> None:
    first, *_, last = json.loads(shown(f"{__name__}:app", "--json"))
    assert first == {"pattern": "order.changed", "function": "reserve", "form": "transaction", "when": "urgent", **NONE}
    assert last == {"pattern": "otherwise", "function": None, "form": "store", "when": None, **NONE}


def test_a_function_is_one_route() -> None:
    name = f"{__name__}:handle"
    assert [line.split() for line in shown(name).splitlines()] == [
        ["pattern", "function", "form"],
        ["*", name, "plain"],
    ]


def test_the_listing_refuses_what_a_listener_refuses() -> None:
    assert "overlap, and neither is more specific" in shown(f"{__name__}:odd", code=2)
    assert "name a handler" in shown(code=2)
