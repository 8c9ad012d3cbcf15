"""Which of RabbitMQ's delivery tags are acknowledged together; how many messages it may send ahead; its refusals."""

import pytest
from aiormq.exceptions import ChannelPreconditionFailed
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.source.brokers.rabbitmq import SettledTags
from unlost.listener.source.brokers.rabbitmq_consumer import SIZES, Prefetch, refuses_offset


def test_settled_tags_from_the_oldest_on_are_acknowledged_together() -> None:
    tags = SettledTags()
    assert tags.settle([1, 2, 3]) == (3, [])
    assert tags.settle([5, 7]) == (0, [5, 7])
    assert tags.settle([4]) == (4, []), "5 is acknowledged already: the server refuses it if it is named again"
    assert tags.settle([6, 8]) == (8, [])
    assert tags.settle([8, 3]) == (0, [])
    assert tags.settle([]) == (0, [])


@given(st.permutations(range(1, 30)), st.integers(1, 7))
def test_each_tag_is_acknowledged_once_whatever_the_order(order: list[int], together: int) -> None:
    tags, open_, settled = SettledTags(), set(range(1, 30)), set[int]()
    for at in range(0, len(order), together):
        settled |= set(order[at : at + together])
        front, apart = tags.settle(order[at : at + together])
        assert not front or front in open_
        acknowledged = {one for one in open_ if one <= front} | set(apart)
        assert set(apart) <= open_
        assert acknowledged <= settled
        open_ -= acknowledged
        assert not open_ & settled, "at once"


def test_prefetch_follows_the_largest_recent_message() -> None:
    ahead = Prefetch(2_000)
    assert (ahead.first, ahead.fitting) == (64, 2_000)
    ahead.note(16 * 1024 * 1024)
    assert (ahead.first, ahead.fitting) == (1, 1)
    for _ in range(2 * SIZES):
        ahead.note(100)
    assert (ahead.first, ahead.fitting) == (64, 2_000)


@pytest.mark.parametrize(("said", "answer"), [
    ("PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'orders' in vhost '/' of type quorum", True),
    ("PRECONDITION_FAILED - queue 'orders' in vhost '/' does not have a running replica on the local node", False),
])  # fmt: skip
def test_only_a_refused_offset_says_that_a_queue_is_no_stream(said: str, answer: bool) -> None:
    assert refuses_offset(ChannelPreconditionFailed(said)) == answer
