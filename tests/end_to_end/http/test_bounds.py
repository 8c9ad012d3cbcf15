"""Whatever comes to a port, the process behind it does not grow, and tells at once that it lives."""

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import psutil
import pytest

from ops.local.system import System
from ops.telemetry.admission import files_allowed
from tests.support.attack import MEBIBYTE, Crowd, Watching, exchanged, flooded, watching
from tests.support.system import running_system

PROMPT = 0.2
"""Seconds for an answer about health; the middle one counts, since the machine that tests has stalls of its own."""
FLOOD = 40 * MEBIBYTE
LINES = b"".join(b"x-%05d: %b\r\n" % (number, b"y" * 80) for number in range(700))
HEAD = b"GET /health/live HTTP/1.1\r\nhost: here\r\n"
PORTS = ("producer", "listener", "console", "stream")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(listeners=1, console=True) as running:
        httpx.get(f"{running.layout.producer_url}/health/live", trust_env=False)
        yield running


def place(system: System, port: str) -> tuple[int, str, str]:
    """The process, the port to attack, and where the process tells of its health."""
    layout = system.layout
    child, url = {
        "producer": (system.producer, layout.producer_url),
        "stream": (system.producer, layout.producer_url),
        "listener": (system.listeners[0], layout.listener_urls[0]),
        "console": (system.console, str(layout.console_url)),
    }[port]
    return child.pid, layout.stream_url if port == "stream" else url, url


def see_that_it_was_prompt(seen: Watching) -> None:
    assert seen.typical < PROMPT, seen.waits


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    ("first", "piece"),
    [
        pytest.param(HEAD, LINES, id="lines"),
        pytest.param(HEAD + b"x: ", b"y" * 65_536, id="value"),
        pytest.param(HEAD, b"y" * 65_536, id="name"),
        pytest.param(b"GET /", b"y" * 65_536, id="target"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", LINES, id="trailers"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"y" * 65_536, id="trailer"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"y" * 65_536, id="extension"),
        pytest.param(b"", b"\r\n" * 32_768, id="nothing"),
    ],
)
async def test_an_endless_head_is_refused_and_costs_nothing(system: System, port: str, first: bytes, piece: bytes):
    pid, url, health = place(system, port)
    with watching(pid, health) as seen:
        answer = await flooded(url, first, piece, FLOOD)
    if not (port == "stream" and (b"chunked" in first or not first)):  # no WebSocket handshake has a body
        told = re.findall(rb"HTTP/1.1 (\d+)", answer)
        assert told[-1:] in ([b"431"], [b"414"]) or b"chunked" in first, answer[-300:]
    assert seen.growth < 5, seen
    see_that_it_was_prompt(seen)


async def test_many_small_fields_are_refused(system: System):
    _, url, _ = place(system, "listener")
    answer = await exchanged(url, HEAD + b"a:\r\n" * 300 + b"\r\n")
    assert b"HTTP/1.1 431" in answer
    assert b"256" in answer


@pytest.mark.parametrize("port", PORTS)
async def test_half_sent_heads_end_in_ten_seconds_and_keep_no_probe_out(system: System, port: str):
    pid, url, health = place(system, port)
    crowd = Crowd(url, HEAD + b"x: y")
    assert files_allowed() > 3_500, "more files must be allowed to this process: ulimit -n"
    with watching(pid, health) as seen:
        await crowd.come(3_000)
        assert psutil.Process(pid).num_fds() < 1_400
        answers = await crowd.answers(30)
    crowd.go()
    if port != "stream":
        assert Counter(answer[:12] for answer in answers)[b"HTTP/1.1 408"] > 900
    assert seen.growth < 60, seen.growth
    see_that_it_was_prompt(seen)


BODIES = {
    "publish": ("producer", b"POST /publish HTTP/1.1\r\nhost: h\r\ncontent-length: 1048576\r\n\r\n"),
    "short": ("producer", b"POST /publish HTTP/1.1\r\nhost: h\r\ncontent-length: 65000\r\n\r\n"),
    "batch": ("producer", b"POST /publish/batch HTTP/1.1\r\nhost: h\r\ncontent-length: 1048576\r\n\r\n"),
    "console": (
        "console", b"POST /api/publish HTTP/1.1\r\nhost: %b\r\nx-unlost-console: 1\r\ncontent-length: 1048576\r\n\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
async def test_half_sent_bodies_share_a_budget_and_end(system: System, name: str):
    port, head = BODIES[name]
    pid, url, health = place(system, port)
    if b"%b" in head:
        head %= url.removeprefix("http://").encode()
    half = b" " * (512 * 1024) if name != "short" else b" " * 64_000
    crowd = Crowd(url, head + half)
    with watching(pid, health) as seen:
        await crowd.come(600, at_once=20)
        answers = await crowd.answers(60)
    crowd.go()
    told = Counter(answer[9:12] for answer in answers)
    assert told[b"408"] + told[b"503"] + told[b""] == 600, told
    assert told[b"408"] > 100, told
    assert seen.growth < 200, seen.growth
    see_that_it_was_prompt(seen)


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
                    continue  # as many rows may there be
                answer = client.get(path + quote(wrong) if wrong != "%00" else path + wrong)
                assert (answer.status_code, "whole number" in answer.json()["error"]) == (400, True), (path, wrong)
