"""Whatever a port receives, the process behind it does not grow, and answers health probes at once."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

import httpx
import pytest

from tests.support.attack import Attackers, attackers, crowded, exchanged, flooded
from tests.support.system import running_system
from tests.support.watched import MEBIBYTE, Watched, watching
from unlost.ops.system.system import System

PROMPT = 0.2
"""Seconds. The process's part in any probe's wait must be shorter."""
FLOOD = 40 * MEBIBYTE
LINES = b"".join(b"x-%05d: %b\r\n" % (number, b"y" * 80) for number in range(700))
HEAD = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
ENDLESS = {
    "lines": (HEAD, LINES),
    "value": (HEAD + b"x: ", b"y" * 65_536),
    "name": (HEAD, b"y" * 65_536),
    "target": (b"GET /", b"y" * 65_536),
    "nothing": (b"", b"\r\n" * 32_768),
    "trailers": (CHUNKED + b"0\r\n", LINES),
    "trailer": (CHUNKED + b"0\r\nx: ", b"y" * 65_536),
    "extension": (CHUNKED + b"1;", b"y" * 65_536),
}
HEADS = ("lines", "value", "name", "target", "nothing")
BUSY = {
    "chunks": (CHUNKED.replace(b"GET", b"POST", 1), b"1\r\ny\r\n" * 50_000),
    "requests": (b"", (HEAD + b"\r\n") * 6_000),
}
"""Not refused, and a lot of work for few bytes."""
PORTS = ("producer", "listener", "console", "stream")

pytestmark = [pytest.mark.timeout(180), pytest.mark.long]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(listeners=1, console=True) as running:
        yield running


@pytest.fixture(scope="module")
def attack() -> Iterator[Attackers]:
    with attackers(4) as ready:
        yield ready


def place(system: System, port: str) -> tuple[int, str, str]:
    """The process, the port to attack, and the address of the process's health."""
    layout = system.layout
    child, url = {
        "producer": (system.producer, layout.producer_url),
        "stream": (system.producer, layout.producer_url),
        "listener": (system.listeners[0], layout.listener_urls[0]),
        "console": (system.console, str(layout.console_url)),
    }[port]
    assert child.pid is not None
    return child.pid, layout.stream_url if port == "stream" else url, url


def see_that_it_was_prompt(seen: Watched) -> None:
    assert seen.longest < PROMPT, (seen.longest, seen.waits)


@pytest.mark.parametrize("port", PORTS)
async def test_endless_requests_are_refused_and_cost_nothing(system: System, attack: Attackers, port: str):
    pid, url, health = place(system, port)
    with watching(pid, health) as seen:
        shown, _ = await asyncio.gather(
            attack(flooded, url, list(ENDLESS.values()), FLOOD),
            attack(flooded, url, list(BUSY.values()), 0 if port == "stream" else MEBIBYTE // 2),
        )
    for name, answer in zip(ENDLESS, shown, strict=True):
        if name in HEADS and (port, name) != ("stream", "nothing"):  # it answers only requests
            assert re.match(rb"HTTP/1.1 (431|414) ", answer), (name, answer[:300])
    assert seen.growth < 5, seen.growth
    see_that_it_was_prompt(seen)


async def test_many_small_fields_are_refused(system: System):
    _, url, _ = place(system, "listener")
    answer = await exchanged(url, HEAD + b"a:\r\n" * 300 + b"\r\n")
    assert b"HTTP/1.1 431" in answer
    assert b"256" in answer


CROWDS = {"producer": 3_000, "listener": 1_500, "console": 1_500, "stream": 1_500}
HALF_HEAD = HEAD + b"x: y"
HALF_BODY = (
    b"POST %b HTTP/1.1\r\nhost: %b\r\nx-unlost-console: 1\r\ncontent-length: 1048576\r\n\r\n" + b" " * 512 * 1024
)
HALF_EVENT = b"POST /publish HTTP/1.1\r\nhost: localhost\r\ncontent-length: 65000\r\n\r\n" + b" " * 64_000


async def test_half_sent_heads_end_in_ten_seconds_and_keep_no_probe_out(system: System, attack: Attackers):
    """All ports at once, because each test waits ten seconds."""
    with ExitStack() as watchers:
        seen = [watchers.enter_context(watching(*place(system, port)[::2])) for port in PORTS[:3]]
        shown = await asyncio.gather(
            *(attack(crowded, place(system, port)[1], [HALF_HEAD], count) for port, count in CROWDS.items())
        )
    for answers in shown[:3]:
        assert Counter(answer[:12] for answer in answers)[b"HTTP/1.1 408"] > 900
    for process, ports in zip(seen, (2, 1, 1), strict=True):
        assert process.files < ports * 1_200, "a thousand for each port, and some for its own needs"
        assert process.growth < 60, process.growth
        see_that_it_was_prompt(process)


async def test_half_sent_bodies_share_a_budget_and_end(system: System, attack: Attackers):
    half = {
        "producer": [
            HALF_BODY % (b"/publish", b"localhost"),
            HALF_BODY % (b"/publish/batch", b"localhost"),
            HALF_EVENT,
        ],
        "console": [HALF_BODY % (b"/api/publish", place(system, "console")[1].removeprefix("http://").encode())],
    }
    with ExitStack() as watchers:
        seen = [watchers.enter_context(watching(*place(system, port)[::2])) for port in half]
        shown = await asyncio.gather(
            *(attack(crowded, place(system, port)[1], sent, 600, at_once=20) for port, sent in half.items())
        )
    for answers in shown:
        statuses = Counter(answer[9:12] for answer in answers)
        assert statuses[b"408"] + statuses[b"503"] + statuses[b""] == 600, statuses
        assert statuses[b"408"] > 100, statuses
    for process in seen:
        assert process.growth < 200, process.growth
        see_that_it_was_prompt(process)
    assert b"Traceback" not in system.console.log.read_bytes(), "a client that disconnects is no error of ours"


NUMBERS = {
    "producer": ("/api/journal?limit=",),
    "listener": ("/api/events?limit=", "/api/events?before="),
    "console": ("/api/events?limit=", "/api/events?before=", "/api/letters?limit="),
}
NO_NUMBERS = ("²", "٣", "+1", "-1", "1_0", " 1", "1.0", "0x1", "", "1e2", "9" * 18, "9" * 30, "9" * 5_000, "NaN", "%00")


@pytest.mark.parametrize("port", NUMBERS)
def test_only_plain_digits_within_bounds_are_a_number(system: System, port: str):
    _, _, url = place(system, port)
    with httpx.Client(base_url=url, trust_env=False, headers={"x-unlost-console": "1"}) as client:
        for path in NUMBERS[port]:
            assert client.get(f"{path}7").status_code == 200
            for wrong in NO_NUMBERS:
                if "before" in path and wrong == "9" * 18:
                    continue  # there may be as many rows
                answer = client.get(path + quote(wrong) if wrong != "%00" else path + wrong)
                assert (answer.status_code, "whole number" in answer.json()["error"]) == (400, True), (path, wrong)
