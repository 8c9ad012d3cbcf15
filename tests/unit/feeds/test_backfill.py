"""Fetching what a gap has missed: the calls that a profile describes, against an HTTP server that may misbehave."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tests.support.feeds.history import answer, history, numbers
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.gap import Gap, How
from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.backfilling import lacking
from unlost.listener.source.feed.calls import call
from unlost.listener.source.feed.described import ProfileFeed
from unlost.listener.source.feed.hook import FeedEvent, FetchedInPart, NotFetchable, Refused
from unlost.listener.source.feed.loading import parse
from unlost.listener.source.feed.taking import taking_of

PROFILE = """
url = "wss://feed.example/"
open = ['x']
keep = { type = "match" }
id = "{product}:{n}"
sequence = { by = "product", at = "n" }
[backfill]
url = "${API}/trades?by={by}&first={first}&last={last}&next={next}"
each = "trades[*]"
id = "{gap.by}:{n}"
next = "next"
every = 0.001
"""


def feed(text: str, url: str) -> ProfileFeed:
    return ProfileFeed(parse(text, "feed", {"API": url, "KEY": "sesame-42"}))


def gap(how: How = "sequence", after: str | None = "BTC/USD:3", before: str | None = "BTC/USD:9") -> Gap:
    return Gap("g", "feed", how, after, before, 5, 1_700_000_000.0, 1_700_000_010.5)


async def fetched(one: ProfileFeed, what: Gap) -> list[str | None]:
    found: list[str | None] = []
    await into(found, one, what)
    return found


async def into(found: list[str | None], one: ProfileFeed, what: Gap) -> None:
    async for page in one.fetch(what):
        found += [action.id if isinstance(action, FeedEvent) else None for action in page]


async def test_pages_of_missing_numbers_are_fetched_and_mapped():
    async with history(numbers({"BTC/USD": 8}, size=2)) as server:
        assert await fetched(feed(PROFILE, server.url), gap()) == [f"BTC/USD:{number}" for number in (4, 5, 6, 7, 8)]
    assert [one.get("next") for one in server.asked] == [None, "6", "8"]
    assert server.asked[0] == {"by": "BTC/USD", "first": "4", "last": "8"}


async def test_a_time_window_a_body_and_secrets_of_the_headers():
    text = """url = "wss://x/"\nid = "n"\n[backfill]\nurl = "${API}/x?since={from}&until={to}"\nmethod = "POST"
body = '{"since":"{from}","key":"${KEY}"}'\nheaders = { Authorization = "Bearer ${KEY}" }\neach = "[*]"\ntime = "ms"
margin = 1"""
    async with history(lambda _: [{"n": 1}]) as server:
        assert await fetched(feed(text, server.url), gap("disconnected", None, None)) == ["1"]
        for form, since in (("iso", "2023-11-14T22:13:19.000Z"), ("s", "1699999999"), ("ns", "1699999999000000000")):
            await fetched(feed(text.replace('"ms"', f'"{form}"'), server.url), gap("silence", None, None))
            assert server.asked[-1]["since"] == since
    assert server.asked[0] == {"since": "1699999999000", "until": "1700000011500"}
    assert json.loads(server.bodies[0]) == {"since": "1699999999000", "key": "sesame-42"}
    assert "Bearer sesame-42" in server.heads[0]


async def test_braces_of_a_value_from_outside_are_no_names_of_a_gap():
    text = (
        PROFILE.replace("next={next}", "next={next}&key=${KEY}")
        + """start = "${KEY}:{first}"
method = "POST"\nbody = '{"query":"${KEY}","since":"{first}"}'"""
    )
    async with history(lambda _: {"trades": [{"product": "BTC/USD", "n": 4}]}) as server:
        one = ProfileFeed(parse(text, "feed", {"API": server.url, "KEY": "a{next}{by}"}))
        await fetched(one, gap())
    assert (server.asked[0]["key"], server.asked[0]["next"]) == ("a{next}{by}", "a{next}{by}:4")
    assert json.loads(server.bodies[0]) == {"query": "a{next}{by}", "since": "4"}


async def test_a_call_cannot_use_a_value_that_the_gap_lacks():
    async with history(lambda _: []) as server:
        with pytest.raises(NotFetchable, match=r"the gap has no \{by\}"):
            await fetched(feed(PROFILE.replace('"{gap.by}:{n}"', '"n"'), server.url), gap("disconnected", None, None))
        with pytest.raises(NotFetchable, match=r"the gap has no \{gap\.by\}"):
            await fetched(feed(PROFILE, server.url), gap("refused", "71", None))
    assert server.asked == []


@pytest.mark.parametrize(
    ("first", "error", "why"),
    [
        (answer(b"<html>", "200 OK"), SourceEnded, "the answer has no event, since the message is not JSON"),
        (answer({"error": "x"}), SourceEnded, r"no array stands at trades"),
        (answer({"trades": [{"x": 1}]}), SourceEnded, "the event has no id"),
        (answer({"trades": [{"n": 1}, {"x": 2}, 3]}), SourceEnded, "only 1 events, since the event has no id"),
        (answer({}, "404 Not Found"), NotFetchable, "answered HTTP 404"),
        (answer({}, "503 Busy", "Retry-After: 7"), SourceEnded, "answered HTTP 503"),
        (answer(b"[" + b" " * 5_000_000), NotFetchable, "more than 4,194,304 bytes"),
        (b"nonsense\r\n\r\n", SourceEnded, "cannot be called"),
        (b"", SourceEnded, "cannot be called"),
        (answer({}, "302 Found", "Location: http://127.0.0.1:9/"), SourceEnded, "answered HTTP 302"),
    ],
)
async def test_a_wrong_answer_is_an_error_of_the_call(first: bytes, error: type[Exception], why: str):
    async with history(numbers({"BTC/USD": 8})) as server:
        server.first.append(first)
        with pytest.raises(error, match=why) as ended:
            await fetched(feed(PROFILE, server.url), gap())
        if b"Retry-After" in first:
            assert isinstance(ended.value, SourceEnded)
            assert ended.value.loss.wait == 7
        assert len(await fetched(feed(PROFILE, server.url), gap())) == 5


async def test_an_item_without_an_id_among_good_ones_is_refused():
    async with history(lambda _: {"trades": [{"n": 4}, {"x": 2}, {"n": 3}]}) as server:
        (page,) = [page async for page in feed(PROFILE, server.url).fetch(gap())]
    assert [type(one) for one in page] == [FeedEvent, Refused]
    assert len(taking_of(list(page)).bodies) == 2


async def test_pages_without_an_end_are_cut_off_and_what_came_is_kept():
    endless = PROFILE + "pages = 3\n"
    async with history(lambda query: {"trades": [{"n": 4}], "next": int(query.get("next", 1)) + 1}) as server:
        found: list[str | None] = []
        with pytest.raises(FetchedInPart, match=r"more than 3 pages \(pages\)"):
            await into(found, feed(endless, server.url), gap())
    assert (len(found), len(server.asked)) == (3, 3)
    async with history(lambda _: {"trades": [{"n": 1}], "next": "same"}) as server:
        with pytest.raises(FetchedInPart, match="page 2 names itself as the next one"):
            await fetched(feed(PROFILE, server.url), gap())
    async with history(lambda query: {"trades": [{"n": 1, "x": "y" * 2000}], "next": query["first"] * 2}) as server:
        with pytest.raises(FetchedInPart, match="bytes came, and more pages follow"):
            await fetched(feed(PROFILE + "bytes = 1024\n", server.url), gap())


async def test_calls_keep_their_distance():
    called: list[float] = []

    async def timed(method: str, url: str, headers: Mapping[str, str], body: str | None = None) -> bytes:
        called.append(asyncio.get_running_loop().time())
        return await call(method, url, headers, body)

    async with history(numbers({"BTC/USD": 8}, size=2)) as server:
        loaded = parse(PROFILE.replace("0.001", "0.2"), "feed", {"API": server.url})
        assert len(await fetched(ProfileFeed(loaded, call=timed), gap())) == 5
    assert len(called) == 3
    assert all(later - earlier > 0.19 for earlier, later in itertools.pairwise(called))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("{first}", "{number}"), r"a gap has no \{number\}; it has after, before, by, first"),
        (('next = "next"\n', ""), r"next, and \{next\} in url or body, belong together"),
        (("every = 0.001", 'start = "{next}"'), r"start is the first \{next\}, so it needs next"),
        (("every = 0.001", "pages = 0"), "greater than or equal to 1"),
        (("every = 0.001", "evry = 1"), "there is no such key"),
        (("${API}", "${NONE}"), "the environment variable NONE is not set"),
        (("&next={next}", "&next={next}&api_key=abc"), "holds a secret"),
        (("every = 0.001", 'headers = { Authorization = "abc" }'), "holds a secret"),
    ],
)
def test_mistakes_are_reported_with_their_line(change: tuple[str, str], why: str):
    environment: dict[str, Any] = {"API": "https://api.example"}
    with pytest.raises(Misconfigured, match=rf"(?s)feed, line \d+: backfill.*{why}"):
        parse(PROFILE.replace(*change), "feed", environment)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "500 Broken"])
async def test_a_server_that_repeats_the_secret_does_not_show_it(status: str):
    secret = PROFILE + 'headers = { Authorization = "Bearer ${KEY}" }\n'
    async with history(numbers({"BTC/USD": 8})) as server:
        server.first.append(answer(b"your header was sesame-42, sorry", status))
        with pytest.raises((SourceEnded, NotFetchable), match="your header was") as ended:
            await fetched(feed(secret, server.url), gap())
    assert "sesame-42" not in f"{ended.value} {getattr(ended.value, 'loss', '')}"


async def test_an_answer_of_a_million_items_does_not_stop_the_event_loop():
    async with history(lambda _: {}) as server:
        server.first.append(answer(b'{"trades":[' + b"1," * 1_000_000 + b"1]}"))
        stalls: list[float] = []
        watching = asyncio.create_task(watch(stalls))
        with pytest.raises(SourceEnded, match="the event has no id"):
            await fetched(feed(PROFILE, server.url), gap())
        watching.cancel()
    assert max(stalls) < 1.0


async def watch(stalls: list[float]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        await asyncio.sleep(0.01)
        stalls.append(clock() - began)


def test_missing_events_are_counted_by_numbers_or_by_ids():
    three = msgspec.structs.replace(gap(after="BTC:3", before="BTC:7"), missing=3)
    assert lacking(three, 2, []) == "of 3 missing events, the answers have 2"
    assert lacking(three, 3, []) == ""
    assert lacking(three, 1000, {1, 2, 3, 4, 5, 7, 8}) == "of 3 missing events, the answers have 2"
    assert lacking(three, 1000, {4, 5, 6}) == ""
    assert lacking(gap("silence"), 0, []) == "", "nobody knows"
