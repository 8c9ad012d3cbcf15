"""Messages that a JetStream stream removed while its consumer lagged behind."""

import pytest

from unlost.listener.ports.source import Dropped
from unlost.listener.source.brokers.overtaken import ConsumerState, redelivery, removed_between


@pytest.mark.parametrize(("now", "missing"), [
    (ConsumerState(1, 10, 10), 0),  # nothing happened
    (ConsumerState(1, 60, 60), 0),  # all was delivered, and nothing removed
    (ConsumerState(50, 60, 60), 0),  # removed after it was delivered
    (ConsumerState(30, 10, 10), 19),  # nothing delivered since
    (ConsumerState(30, 40, 21), 19),  # then the others were delivered
    (ConsumerState(30, 40, 31), 9),  # ten were delivered before the rest was removed
    (ConsumerState(30, 40, 25), 15),  # four redeliveries: at least so many are missing
    (ConsumerState(1, 60, 30), 0),  # messages within the stream were deleted one by one, and its beginning stands
])  # fmt: skip
def test_messages_that_were_passed_and_not_delivered_were_removed(now: ConsumerState, missing: int) -> None:
    found = removed_between(ConsumerState(1, 10, 10), now, "S")
    assert found == (Dropped(missing, "S@10", f"S@{now.first}", f" {now.first}") if missing else None)


def test_messages_removed_before_the_first_look_count_once() -> None:
    assert removed_between(ConsumerState(20, 5, 5), ConsumerState(25, 5, 5), "S") == Dropped(5, "S@19", "S@25", " 25")
    assert removed_between(ConsumerState(20, 5, 5), ConsumerState(20, 30, 16), "S") is None


def test_redeliveries_hide_nothing() -> None:
    """A hundred were removed unread while as many were delivered again."""
    before, now = ConsumerState(1, 100, 100), ConsumerState(201, 300, 300)
    assert removed_between(before, now, "S", redelivered=0) is None
    assert removed_between(before, now, "S", redelivered=100) == Dropped(100, "S@100", "S@201", " 201")
    assert removed_between(before, ConsumerState(201, 300, 400), "S", redelivered=100) is None, (
        "all were delivered before"
    )


@pytest.mark.parametrize(("now", "gap"), [
    (ConsumerState(1, 50, 15, 0), False),  # all that waited was delivered
    (ConsumerState(30, 50, 15, 0), False),  # and its place removed then
    (ConsumerState(30, 10, 10, 0), True),  # all of it was removed
    (ConsumerState(30, 40, 12, 1), True),  # two were delivered, one is left
    (ConsumerState(30, 40, 12, 7), False),  # nobody knows: new ones came
    (ConsumerState(1, 40, 12, 1), False),  # deleted one by one
])  # fmt: skip
def test_with_a_filter_the_number_is_unknown(now: ConsumerState, gap: bool) -> None:
    found = removed_between(ConsumerState(1, 10, 10, 5), now, "S", filtered=True)
    assert found == (Dropped(None, "S@10", f"S@{now.first}", f" {now.first}") if gap else None)


@pytest.mark.parametrize(("reply", "number"), [
    ("$JS.ACK.S.c.1.7.9.1795947859939.0", None),
    ("$JS.ACK.S.c.2.7.9.1795947859939.0", 9),
    ("$JS.ACK._.hash.S.c.1.7.9.1795947859939.0", None),
    ("$JS.ACK.hub.hash.S.c.3.7.9.1795947859939.0.random", 9),
    ("$JS.ACK.S.c.2.7.x.1795947859939.0", None),
    ("_INBOX.reply", None),
])  # fmt: skip
def test_the_address_of_the_answer_says_whether_a_message_came_before(reply: str, number: int | None) -> None:
    assert redelivery(reply) == number
