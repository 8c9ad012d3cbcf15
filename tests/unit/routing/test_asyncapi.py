"""The AsyncAPI document of a handler: its messages, their payloads' schemas, and the official schema of the format."""

import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import jsonschema_rs
import msgspec
import pydantic
import pytest
from click.testing import CliRunner

from tests.support import npm
from unlost import App, Delivery, Transaction
from unlost.listener.app.asyncapi import asyncapi
from unlost.listener.routing.asyncapi import asyncapi_of
from unlost.listener.routing.finding import handler_of

PACKAGES = Path(__file__).parents[2] / "support" / "asyncapi"


class Line(msgspec.Struct):
    sku: str
    count: int


class Order(msgspec.Struct):
    lines: list[Line]


class Refund(pydantic.BaseModel):
    amount: int = pydantic.Field(gt=0)
    at: datetime


@dataclasses.dataclass
class Reading:
    value: float


class Alarm(TypedDict):
    level: int


def other_line() -> type:
    return msgspec.defstruct("Line", [("text", str)])


OTHER = other_line()
app = App()


@app.on("order.created", "order.changed")
async def reserve(order: Order, tx: Transaction, event: Delivery) -> None:
    """Take an order's lines from the stock.

    More than one line.
    """


@app.on("refund.*")
def refund(refund: Refund) -> None: ...


@app.on("reading")
async def reading(reading: Reading) -> None: ...


@app.on("alarm", when=lambda event: event.payload["level"] > 3)
async def alarm(alarm: Alarm) -> None: ...


app.on("note")(lambda note: None)


async def line(line: Any) -> None: ...


line.__annotations__["line"] = OTHER
app.on("line")(line)


@app.otherwise
async def rest(event: Delivery) -> None: ...


def document() -> dict[str, Any]:
    built: dict[str, Any] = json.loads(
        json.dumps(asyncapi_of(handler_of("shop:app", app), name="shop:app", version="1.2"))
    )
    return built


def validator(name: str) -> "jsonschema_rs.Validator":
    """Of one message's events, with all parts of the document."""
    whole = document()["components"]
    return jsonschema_rs.validator_for({"components": whole} | whole["messages"][name]["payload"])


def test_each_function_has_an_operation_and_a_message():
    whole = document()
    assert whole["info"] == {"title": "shop:app", "version": "1.2"}
    assert list(whole["operations"]) == ["reserve", "refund", "reading", "alarm", "_lambda_", "line", "rest"]
    assert whole["operations"]["reserve"] == {
        "action": "receive",
        "channel": {"$ref": "#/channels/events"},
        "summary": "Take an order's lines from the stock.",
        "messages": [{"$ref": "#/channels/events/messages/reserve"}],
    }
    assert whole["components"]["messages"]["reserve"]["title"] == "order.created, order.changed"


@pytest.mark.parametrize(
    ("message", "kind", "payload", "fits"),
    [
        ("reserve", "order.created", {"lines": [{"sku": "a", "count": 1}]}, True),
        ("reserve", "order.changed", {"lines": [{"sku": "a"}]}, False),
        ("reserve", "order.gone", {"lines": []}, False),
        ("refund", "refund.full", {"amount": 1, "at": "2026-01-01T00:00:00Z"}, True),
        ("refund", "refund.full", {"amount": 0, "at": "2026-01-01T00:00:00Z"}, False),
        ("refund", "refunds", {"amount": 1, "at": "2026-01-01T00:00:00Z"}, False),
        ("reading", "reading", {"value": 1.5}, True),
        ("reading", "reading", {"value": "x"}, False),
        ("alarm", "alarm", {"level": "x"}, False),
        ("_lambda_", "note", ["anything"], True),
        ("line", "line", {"text": "a"}, True),
        ("line", "line", {"sku": "a", "count": 1}, False),
        ("rest", None, None, True),
    ],
)
def test_a_message_describes_the_events_that_its_function_takes(message: str, kind: str, payload: Any, fits: bool):
    assert validator(message).is_valid({"event_id": "e", "type": kind, "payload": payload}) is fits


def test_a_resource_is_not_taken_for_the_payload():
    with_resources = App()

    class Client:
        """Of the lifespan."""

    @with_resources.lifespan
    async def resources() -> AsyncIterator[dict[str, object]]:
        yield {}

    @with_resources.on("t")
    async def work(client: Client, order: Order) -> None: ...

    handler = handler_of("shop:app", with_resources)
    before = asyncapi_of(handler, name="shop:app", version="")
    handler.bind({"client": Client()})  # type: ignore[attr-defined]
    assert asyncapi_of(handler, name="shop:app", version="") == before
    assert set(before["components"]["schemas"]) == {"Order", "Line"}


def test_a_plain_function_and_no_handler_take_all_events():
    def handle(event: Delivery) -> None: ...

    assert list(asyncapi_of(handler_of("shop:handle", handle), name="shop:handle", version="")["operations"]) == [
        "shop_handle"
    ]
    assert list(asyncapi_of(None, name="", version="")["operations"]) == ["store"]


def test_documents_are_valid_by_the_official_schema(tmp_path: Path):
    specs = npm.installed(PACKAGES, tmp_path) / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    official = jsonschema_rs.validator_for(json.loads(specs.read_bytes()), offline=True)
    for built in (document(), asyncapi_of(None, name="", version="")):
        official.validate(built)
    assert not official.is_valid(document() | {"operations": {"x": {"action": "reads"}}})


def test_the_command_prints_the_document():
    printed = CliRunner().invoke(asyncapi, [f"{__name__}:app"], env={"HANDLER_VERSION": "1.2"})
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout) | {"info": {}} == document() | {"info": {}}
    wrong = CliRunner().invoke(asyncapi, ["nowhere:app"])
    assert wrong.exit_code == 2
    assert "importing nowhere failed" in wrong.output


@pytest.mark.parametrize("name", ["json:dumps", "json:nothing"])
def test_the_command_says_in_one_sentence_what_is_no_application(name: str):
    refused = CliRunner().invoke(asyncapi, [name])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"{name} is no App: name an application with routes, such as shop:app" in refused.stderr
