"""The traceback of a handler's error: the user's code first, bounded, and none of our own code."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject, Transient, failure_of
from unlost.listener.core.tracebacks import LONGEST, MOST_FRAMES, traceback_of
from unlost.listener.pipeline.handlers import FunctionHandler, attempt
from unlost.listener.routing.finding import find_handler
from unlost.ops.kit.telemetry.logs import configure_logs

DELIVERY = Delivery("order-1", None, None, {}, 1, 1)


def function_handler(name: str) -> FunctionHandler:
    found = find_handler(name)
    assert isinstance(found, FunctionHandler)
    return found


def look_up(key: str) -> str:
    nothing: dict[str, str] = {}
    return nothing[key]


async def nested(event: Delivery) -> None:
    try:
        look_up(event.event_id)
    except KeyError as error:
        raise ValueError("no such order") from error


def plain(event: Delivery) -> None:
    json.loads("{")


async def refuse(event: Delivery) -> None:
    raise Reject("no")


async def hang(event: Delivery) -> None:
    await asyncio.sleep(10)


def deep(event: Delivery) -> None:
    deep(event)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


async def mute(event: Delivery) -> None:
    raise Mute


async def failed(name: str) -> str:
    try:
        await attempt(function_handler(f"{__name__}:{name}").call(DELIVERY), timeout=0.05 if name == "hang" else 20)
    except Exception as error:  # noqa: BLE001
        return failure_of(error, stage="handle", at=0.0).traceback or ""
    raise AssertionError("it did not fail")


async def test_it_begins_with_the_users_code_and_says_what_the_error_arose_from() -> None:
    shown = await failed("nested")
    assert shown.splitlines()[1].endswith(", in nested")
    assert shown.index("in look_up") < shown.index("KeyError: 'order-1'") < shown.index("ValueError: no such order")
    assert "listener/pipeline/handlers.py" not in shown


async def test_a_plain_function_and_a_refusal_have_one_too() -> None:
    plains, refused = await failed("plain"), await failed("refuse")
    assert plains.splitlines()[1].endswith(", in plain")
    assert plains.splitlines()[-1].startswith("json.decoder.JSONDecodeError: ")
    assert refused.splitlines()[1].endswith(", in refuse")


async def test_a_handler_that_took_too_long_is_shown_where_it_was() -> None:
    shown = await failed("hang")
    assert "await asyncio.sleep(10)" in shown


async def test_it_is_bounded() -> None:
    shown = await failed("deep")
    assert len(shown) <= LONGEST + 10
    assert shown.count("deep(event)") <= MOST_FRAMES
    assert shown.splitlines()[1].endswith(", in deep")
    assert "RecursionError" in shown.splitlines()[-1]


async def test_an_error_whose_text_cannot_be_had_is_one_all_the_same() -> None:
    with pytest.raises(Transient, match="Mute, whose text cannot be read: ValueError"):
        await attempt(function_handler(f"{__name__}:mute").call(DELIVERY), timeout=20)


def test_an_error_of_our_own_code_alone_has_no_traceback() -> None:
    assert traceback_of(Transient("PostgreSQL is away")) is None
    with pytest.raises(KeyError) as caught:
        look_up("at another stage")
    assert failure_of(caught.value, stage="store", at=0.0).traceback is None


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def talk(event: Delivery) -> None:
    logging.getLogger("shop.stock").info("standard")
    structlog.get_logger("shop.orders").info("named")
    structlog.get_logger().info("without a name")


async def talk_asynchronously(event: Delivery) -> None:
    await asyncio.sleep(0)
    talk(event)
    await asyncio.create_task(_talk_later(event))


async def _talk_later(event: Delivery) -> None:
    structlog.get_logger("shop.task").info("in a task of its own")


@pytest.mark.parametrize("name", ["talk", "talk_asynchronously"])
async def test_each_line_that_a_handler_logs_names_event_and_logger(log_lines: io.StringIO, name: str) -> None:
    configure_logs("info", "a", stream=log_lines)
    handler = function_handler(f"{__name__}:{name}")
    with contextlib.suppress(Transient):
        await attempt(handler.call(DELIVERY), timeout=20, said={"event_id": "order-1", "logger": handler.name})
    structlog.get_logger().info("of no event")
    *lines, last = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert [line["logger"] for line in lines][:3] == ["shop.stock", "shop.orders", handler.name]
    assert {line["event_id"] for line in lines} == {"order-1"}
    assert "event_id" not in last
    assert "logger" not in last


async def test_a_second_failure_at_the_same_place_says_the_same_and_has_its_own_words() -> None:
    assert await failed("nested") == await failed("nested")
    words: list[str | None] = []
    for number in (1, 2):
        try:
            look_up(f"order-{number}")
        except KeyError as error:
            words.append(traceback_of(error))
    assert [bool(one and one.endswith(f"KeyError: 'order-{n}'")) for n, one in enumerate(words, 1)] == [True, True]
