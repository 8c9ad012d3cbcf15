"""A Redis with wrong answers: the breaker opens and says why, the mode is degraded, and the process survives."""

from pathlib import Path

import pytest

from tests.support.listeners import running_listener
from tests.support.stream import resuming_source
from tests.support.wrong_redis import answering
from unlost.listener.core.facts import BreakerChanged, EventsStored, PlacesDeclared

ANSWERS = {
    "a number": b":1\r\n",
    "no bulk": b"$-1\r\n",
    "no elements": b"*0\r\n",
    "no array": b"*-1\r\n",
    "a short bulk": b"$1\r\n1\r\n",
    "OK": b"+OK\r\n",
    "an unknown kind": b"$3\r\n\x09\x09\x09\r\n",
    "an error that says nothing": b"-\r\n",
    "MOVED nowhere": b"-MOVED\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a huge bulk": b"$10000000000\r\n",
    "a huge array": b"*1000000000\r\n",
    "a password is missing": b"-NOAUTH Authentication required.\r\n",
    "a right is missing": b"-NOPERM this user has no permissions\r\n",
    "a key of another program": b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "no scripts": b"-ERR unknown command 'EVALSHA'\r\n",
}


@pytest.mark.parametrize(
    ("name", "at"),
    [(name, at) for name in ANSWERS for at in ("/0", "/3")],  # the library itself sends SELECT
)
async def test_the_process_lives_and_works_without_it(database_url: str, tmp_path: Path, name: str, at: str) -> None:
    async with (
        answering(lambda _: ANSWERS[name]) as redis_url,
        resuming_source() as source,
        running_listener(
            ws_url=source.url, redis_url=redis_url.removesuffix("/0") + at, database_url=database_url,
            directory=tmp_path, startup_attempts="1",
        ) as one,
    ):  # fmt: skip
        await source.publish(*[f"e{number}" for number in range(20)])
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 20)
        assert one.heard.of(PlacesDeclared)[-1].degraded
        await one.heard.until(lambda h: any(f.name == "redis" and f.state == "open" for f in h.of(BreakerChanged)))
        opened = next(fact for fact in one.heard.of(BreakerChanged) if fact.name == "redis")
        assert opened.why.startswith("asking which Redis this is: ")
        health = one.health
        assert health["breaker_causes"]["redis"].startswith("asking which Redis this is: ")
        assert health["mode"] == "degraded"
        assert not one.task.done()
