"""A shard stores its own events. It passes over all others, and their cursors with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.listener.test_intake import Admitted, frame
from unlost.listener.core.facts import EventsOfOtherShards
from unlost.listener.core.in_flight import STORED
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.shard import Shard
from unlost.listener.pipeline.policy import Policy
from unlost.listener.source.stream.envelope import split

TWO = [Shard("orders", number, 2) for number in (1, 2)]


def of(shard: Shard, count: int) -> list[str]:
    """The first ids that a shard stores."""
    return [one for one in map(str, range(100 * count)) if shard.has(one)][:count]


def in_shard(shard: Shard, *, max_events: int = 50_000) -> Admitted:
    return Admitted(policy=Policy(shard=shard, max_events=max_events))


def passed_over(admitted: Admitted) -> int:
    return sum(fact.count for fact in admitted.facts if isinstance(fact, EventsOfOtherShards))


@pytest.mark.parametrize(("group", "shard"), [
    ("orders", None), ("orders-1of2", None), ("shard1of2", None),
    ("orders-shard1of2", Shard("orders", 1, 2)), ("a-b.c-shard64of64", Shard("a-b.c", 64, 64)),
])  # fmt: skip
def test_the_name_of_a_group_says_which_shard_it_is(group: str, shard: Shard | None):
    assert Shard.of_group(group) == shard


@pytest.mark.parametrize(
    "group", ["o-shard0of2", "o-shard3of2", "o-shard01of2", "o-shard1of65", "o-shard1of100", "-shard1of2"]
)
def test_a_shard_that_cannot_be_is_refused(group: str):
    with pytest.raises(ValueError, match="a shard is named as orders-shard1of2"):
        Shard.of_group(group)


@pytest.mark.parametrize(("group", "others", "found"), [
    ("o-shard1of2", ["o-shard2of2", "p-shard1of3", "p"], None), ("o-shard1of2", ["o-shard1of3"], "o-shard1of3"),
    ("o-shard1of2", ["o"], "o"), ("o", ["o-shard1of2"], "o-shard1of2"), ("o", ["o", "p"], None),
    ("o-shard1of1", ["o"], "o"),
])  # fmt: skip
def test_groups_that_divide_the_same_events_in_another_way_are_found(group: str, others: list[str], found: str | None):
    assert Shard.divided_otherwise(group, others) == found


@given(st.text(), st.integers(1, 64))
def test_an_event_is_stored_by_one_shard_whose_group_has_its_name(event_id: str, total: int):
    stored_by = [one for one in (Shard("orders", number, total) for number in range(1, total + 1)) if one.has(event_id)]
    assert [one.number for one in stored_by] == [Shard("orders", 1, total).number_of(event_id)]
    assert Shard.of_group(Shard("orders", 1, total).group_of(event_id)) == stored_by[0]


def test_the_share_of_an_id_stays_what_it_is():
    """If this fails, listeners of two versions would each leave an event to the other."""
    assert [Shard("", 1, 7).number_of(one) for one in ("", "order-1", "order-2", "ß", "\ud800")] == [1, 7, 7, 4, 2]


def test_events_of_other_shards_end_at_once_and_the_cursor_moves_over_them():
    first, second = TWO
    admitted = in_shard(first)
    mine, others = of(first, 2), of(second, 3)
    names = [others[0], mine[0], others[1], mine[1], others[2]]
    admitted.inlet.receive(split([frame(name, 1, f"j.{at}") for at, name in enumerate(names, 1)]))
    claimed = admitted.queue.waiting()
    assert ([one.claim_id for one in claimed], admitted.intake.count, passed_over(admitted)) == (mine, 2, 3)
    admitted.intake.finish([(one, STORED) for one in claimed])
    assert (admitted.inlet.watermark.cursor, admitted.intake.count, admitted.intake.size) == ("j.5", 0, 0)


def test_a_batch_of_nothing_but_others_moves_the_cursor():
    admitted = in_shard(TWO[0])
    admitted.inlet.receive(split([frame(name, 1, f"j.{at}") for at, name in enumerate(of(TWO[1], 3), 1)]))
    assert (admitted.inlet.watermark.cursor, admitted.intake.count, admitted.queue.waiting()) == ("j.3", 0, [])


@pytest.mark.parametrize("enter", ["apart", "overflow", "oversized", "invalid"])
def test_whatever_enters_by_another_way_is_of_one_shard_too(enter: str):
    kept = 0
    for shard in TWO:
        admitted = in_shard(shard)
        inlet = admitted.inlet
        match enter:
            case "apart":
                inlet.receive_apart(split([frame("a", 1, "j.1")]))
            case "overflow":
                inlet.overflow(b'{"event_id":"a","payload":1}', "j.1")
            case "oversized":
                inlet.receive_oversized(Oversized(4_000_000, b"d" * 32, b"head"))
            case _:
                inlet.receive(split([b"no event"]))
        kept += admitted.intake.count
        assert admitted.intake.count + passed_over(admitted) == 1
    assert kept == 1


async def test_what_a_peer_did_not_settle_is_read_by_this_shard_alone():
    first, second = TWO
    admitted = Admitted(policy=Policy(shard=first), share=(0, 2), length=1)
    names = [*of(first, 20), *of(second, 20)]
    admitted.inlet.receive(split([frame(name, 1, f"j.{at}") for at, name in enumerate(names, 1)]))
    admitted.intake.read(admitted.affinity.unread)
    assert {one.claim_id for one in admitted.intake.inside()} == set(of(first, 20))
    assert (admitted.intake.count, passed_over(admitted)) == (20, 20)
