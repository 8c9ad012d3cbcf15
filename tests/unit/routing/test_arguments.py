"""Values fill the parameters of a route's function, and which signatures do not start."""

import asyncio
import dataclasses
import decimal
import json
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypedDict

import msgspec
import pydantic
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.unit.routing.apps import flight, run_app
from unlost import App, Delivery, SyncTransaction, Transaction
from unlost.listener.core.errors import InvalidPayload, Misconfigured
from unlost.listener.pipeline.handlers import HandlerFailed
from unlost.listener.routing.handler import AppHandler

EXACT = "0.12345678901234567890"


class AsStruct(msgspec.Struct):
    sku: str
    price: decimal.Decimal = decimal.Decimal(0)
    items: "list[AsStruct]" = []


@dataclasses.dataclass
class AsDataclass:
    sku: str


class AsTypedDict(TypedDict):
    sku: str


class AsModel(pydantic.BaseModel):
    sku: str
    items: "list[AsModel]" = []


@dataclasses.dataclass
class WithModel:
    order: AsModel


class Client:
    """A resource."""


class Sends(Protocol):
    """The abilities of a resource."""


def only(function: Callable[..., Any], resources: dict[str, Any] | None = None) -> App:
    app = App()
    app.on("*")(function)
    if resources is not None:

        @app.lifespan
        async def yields() -> Any:
            yield resources

    return app


async def given(annotation: Any, payload: str) -> Any:
    """Return the values that a route with a parameter of this type gets."""
    got = []

    async def take(order) -> None:
        got.append(order)

    take.__annotations__ = {"order": annotation, "return": None}
    await run_app(only(take), flight(payload, "t"))
    return got[0]


@pytest.mark.parametrize(
    ("annotation", "payload", "value"),
    [
        (AsStruct, f'{{"sku": "a", "price": {EXACT}}}', AsStruct("a", decimal.Decimal(EXACT))),
        (AsDataclass, '{"sku": "a"}', AsDataclass("a")),
        (AsTypedDict, '{"sku": "a"}', {"sku": "a"}),
        (AsModel, '{"sku": "a"}', AsModel(sku="a")),
        (WithModel, '{"order": {"sku": "a"}}', WithModel(AsModel(sku="a"))),
        (list[AsModel], '[{"sku": "a"}]', [AsModel(sku="a")]),
        (AsStruct | None, "null", None),
        (dict, '{"sku": 1}', {"sku": 1}),
        (dict[str, int], '{"sku": 1}', {"sku": 1}),
        (Any, "[1, 2.5]", [1, 2.5]),
        (str, '"a"', "a"),
    ],
)  # fmt: skip
async def test_a_payload_is_read_as_the_type_of_its_parameter(annotation: Any, payload: str, value: Any) -> None:
    assert await given(annotation, payload) == value


@pytest.mark.parametrize(
    ("annotation", "payload", "said"),
    [
        (AsStruct, '{"sku": "a", "items": [{"sku": 1}]}', "AsStruct: Expected `str`, got `int` - at `$.items[0].sku`"),
        (AsDataclass, "{}", "AsDataclass: Object missing required field `sku`"),
        (AsTypedDict, '{"sku": 1}', "AsTypedDict: Expected `str`, got `int` - at `$.sku`"),
        (AsModel, '{"sku": "a", "items": [{"sku": 1}]}', "Input should be a valid string - at `$.items[0].sku`"),
        (WithModel, '{"order": {}}', "Field required - at `$.order.sku`"),
        (dict[str, int], "[]", "Expected `object`, got `array`"),
    ],
)
async def test_a_payload_that_does_not_fit_is_invalid_and_names_the_field(
    annotation: Any, payload: str, said: str
) -> None:
    with pytest.raises(InvalidPayload) as refused:
        await given(annotation, payload)
    assert said in str(refused.value)


async def test_a_model_names_few_of_many_faults_and_no_value() -> None:
    with pytest.raises(InvalidPayload) as refused:
        await given(list[AsModel], json.dumps([{"sku": ["secret"]}] * 9))
    assert str(refused.value).endswith("; and 4 more")
    assert "secret" not in str(refused.value)


async def test_parameters_are_filled_by_annotation_then_by_name() -> None:
    client = Client()
    got: dict[str, Any] = {}

    async def take(
        order: AsStruct,
        tx: Transaction,
        event: Delivery,
        client: Client,
        sender: Sends,
        *,
        limit: int = 3,
        extra: int = 5,
    ) -> None:
        got.update(order=order, tx=tx, event=event, client=client, sender=sender, limit=limit, extra=extra)

    resources = {"client": client, "sender": "anything", "limit": 7, "unused": 1}
    assert await run_app(only(take, resources), flight('{"sku": "a"}', "t"), object()) == "transaction"
    assert got.pop("order") == AsStruct("a")
    assert isinstance(got.pop("tx"), Transaction)
    event = got.pop("event")
    assert event == Delivery("e", "t", {"sku": "a"}, {}, 1, 0, event.effects)
    assert got == {"client": client, "sender": "anything", "limit": 7, "extra": 5}


async def test_a_function_needs_no_parameter() -> None:
    ran = []

    async def take() -> None:
        ran.append(1)

    await run_app(only(take), flight("1", "t"))
    assert ran == [1]


async def test_a_plain_function_runs_in_a_thread() -> None:
    threads = []

    def take(order: AsStruct, event: Delivery) -> None:
        threads.append(threading.current_thread())

    await run_app(only(take), flight('{"sku": "a"}', "t"))
    assert threads != [threading.main_thread()]


async def not_a_method(self, event: Delivery) -> None: ...
async def positional(event: Delivery, /) -> None: ...
async def two_payloads(one: dict, two: dict) -> None: ...
async def two_events(one: Delivery, two: Delivery) -> None: ...
def sync_transaction(tx: Transaction) -> None: ...
async def blocking(tx: SyncTransaction) -> None: ...
async def blocking_session(session: Session) -> None: ...
def session_in_thread(session: AsyncSession) -> None: ...
def two_sessions(one: Session, two: Session) -> None: ...
async def unknown_resource(event: Delivery, client: Client) -> None: ...
async def unreadable(event: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (not_a_method, "not_a_method(): a route is a function, not a method: nothing fills self"),
        (positional, "positional(): arguments are passed by name, and event is positional only"),
        (two_payloads, "two_payloads(): only one of one, two can be the payload, and there are no resources"),
        (two_events, "two_events(): two parameters are annotated with Delivery"),
        (
            sync_transaction,
            (
                "sync_transaction(): a function that works in this transaction must be an `async def`; "
                "a `def` asks for SyncTransaction"
            ),
        ),
        (blocking, "blocking(): an `async def` must not block in a transaction: it asks for Transaction"),
        (two_sessions, "two_sessions(): two parameters are annotated with a session or connection"),
        (
            blocking_session,
            "blocking_session(): an `async def` must not block in a transaction: it asks for sqlalchemy.AsyncSession",
        ),
        (
            session_in_thread,
            (
                "session_in_thread(): a function that works in this transaction must be an `async def`; "
                "a `def` asks for sqlalchemy.Session"
            ),
        ),
        (
            unknown_resource,
            (
                "unknown_resource(): nothing fills client: no payload can be read as Client: JSON has nothing like it, "
                "and there are no resources"
            ),
        ),
        (unreadable, "unreadable(): its annotations cannot be read: name 'NoSuchName' is not defined"),
    ],
)
def test_a_wrong_signature_is_one_sentence_at_start(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        AppHandler("shop:app", only(function))
    assert str(refused.value) == f"HANDLER=shop:app: {said}"


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"clint": Client()}, "JSON has nothing like it, and the lifespan yields clint"),
        ({"client": 1}, "client is annotated with Client, and the lifespan yields an object of type int"),
        (["client"], "the lifespan yields a mapping from names to resources, not list"),
    ],
)
async def test_resources_that_do_not_fit_are_one_sentence_at_start(resources: Any, said: str) -> None:
    handler = AppHandler("shop:app", only(unknown_resource, resources))
    with pytest.raises(Misconfigured, match=said):
        await handler.open()


async def test_middleware_is_around_each_attempt_and_sees_its_failure() -> None:
    app, log = App(), []

    @app.middleware
    async def outer(event: Delivery) -> Any:
        log.append(f"before {event.event_id}")
        try:
            yield
        except ValueError as error:
            log.append(f"failed: {error}")
            raise
        finally:
            log.append("after")

    class Inner:
        def __init__(self, event: Delivery) -> None: ...

        async def __aenter__(self) -> None:
            log.append("inner")

        async def __aexit__(self, *_: object) -> None:
            log.append("left")

    app.middleware(Inner)

    @app.on("*")
    async def take(payload: int) -> None:
        log.append("runs")
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(HandlerFailed, match="no"):
        await run_app(app, flight("1", "t"))
    assert log == ["before e", "inner", "runs", "left", "failed: no", "after"]
