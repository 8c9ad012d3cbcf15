"""One publish request: its body comes in pieces or not at all, and the last ``redeliver`` counts."""

from typing import Any

import msgspec
import pytest

from tests.support.fakes import as_a
from tests.support.publishing import Places
from unlost.ops.kit.access.gate import UNLIMITED
from unlost.producer.publish.accept import publication
from unlost.producer.publish.publisher import GroupCommit
from unlost.producer.publish.single import PublishOne, asks_again

EVENT = b'{"event_id":"e","payload":1}'
SCOPE = {"type": "http", "query_string": b""}


async def asked(publisher: Places, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer to a request that comes in these messages."""
    coming, said = iter(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def send(message: Any) -> None:
        said.append(message)

    single = PublishOne(
        as_a(GroupCommit, publisher), lambda *_: None,
        lambda body, again: publication(body, max_bytes=1_000, redeliver=again), max_bytes=1_000,
        quota_of=lambda _: UNLIMITED,
    )  # fmt: skip
    await single(SCOPE, receive, send)
    return said


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_may_come_in_the_smallest_pieces():
    publisher = Places()
    head, body = await asked(publisher, *(piece(bytes([one])) for one in EVENT), piece(b"", more=False))
    assert (head["status"], msgspec.json.decode(body["body"])["cursor"]) == (202, "j.0")
    assert publisher.taken[0].body == EVENT


async def test_a_body_that_is_too_large_is_refused_before_it_has_come_whole():
    head, body = await asked(Places(), piece(b"x" * 600), piece(b"x" * 600))
    assert (head["status"], msgspec.json.decode(body["body"])["status"]) == (413, "too_large")


async def test_a_client_that_leaves_mid_body_has_published_nothing():
    publisher = Places()
    assert await asked(publisher, piece(EVENT), {"type": "http.disconnect"}) == []
    assert publisher.taken == []


@pytest.mark.parametrize(
    ("query", "again"),
    [(b"", False), (b"redeliver=true", True), (b"redeliver=1&redeliver=", False), (b"redeliver=0&redeliver=YES", True)],
)
def test_the_last_word_on_redelivery_counts(query: bytes, again: bool):
    assert asks_again(query) == again
