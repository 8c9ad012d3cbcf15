"""Which partitions listeners read, for any members; and what any bytes from a server do."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.stream.partitions import (
    COUNT,
    PATIENCE,
    Arrivals,
    PartitionShare,
    assigned,
    partition_of,
    settled_by_all,
)

STEM = "0123456789ab.t1-0000000a."
LATER = "0123456789ab.t2-0000000b."
members = st.frozensets(st.text("abcdef0123456789:-", min_size=1, max_size=12), min_size=1, max_size=20)


@settings(deadline=None)  # many hashes
@given(members)
def test_each_partition_has_one_reader_and_nobody_has_more_than_a_share(group: frozenset[str]) -> None:
    readers = assigned(group)
    loads = [list(readers.values()).count(one) for one in group]
    assert set(readers) == set(range(COUNT))
    assert max(loads) <= -(-COUNT // len(group))


@settings(deadline=None)  # many hashes
@given(members, st.data())
def test_few_partitions_move_when_a_member_leaves(group: frozenset[str], data: st.DataObject) -> None:
    if len(group) < 2:
        return
    gone = data.draw(st.sampled_from(sorted(group)))
    before, after = assigned(group), assigned(group - {gone})
    stayed = [one for one in range(COUNT) if before[one] == after[one]]
    assert len(stayed) >= COUNT // 4
    assert all(before[one] != gone for one in stayed)


@settings(deadline=None)  # many hashes
@given(members, st.data())
def test_all_members_together_read_everything_that_stands_still(group: frozenset[str], data: st.DataObject) -> None:
    """Also if all but one of them do nothing, whatever they read."""
    me = data.draw(st.sampled_from(sorted(group)))
    share = PartitionShare()
    share.update(me, group - {me})
    for _ in range(PATIENCE * len(group) + 1):
        share.look(dict.fromkeys(range(COUNT), f"{STEM}1"))
    assert share.partitions == frozenset(range(COUNT))


def test_the_first_of_the_others_looks_after_a_partition_and_lets_go_of_it() -> None:
    shares = {one: PartitionShare() for one in "abc"}
    for name, share in shares.items():
        share.update(name, set("abc"))
    assigned_before = {name: share.partitions for name, share in shares.items()}
    (partition,) = sorted(assigned_before["a"])[:1]
    for _ in range(PATIENCE + 1):
        for share in shares.values():
            share.look({partition: f"{STEM}1"})
    adopted = [name for name in "bc" if partition in shares[name].partitions]
    assert len(adopted) == 1
    shares[adopted[0]].outrun(partition)
    assert {name: share.partitions for name, share in shares.items()} == assigned_before


def test_nobody_looks_after_a_partition_that_moves_or_has_caught_up() -> None:
    share = PartitionShare()
    share.update("a", {"b"})
    mine = share.partitions
    for number in range(PATIENCE * 3):
        share.look(dict.fromkeys(range(COUNT), f"{STEM}{number}"))
    for _ in range(PATIENCE):
        share.look(dict.fromkeys(range(COUNT), f"{STEM}9"))
    share.look({})
    share.look(dict.fromkeys(range(COUNT), f"{STEM}9"))
    assert share.partitions == mine


def test_changed_members_end_what_is_looked_after() -> None:
    share = PartitionShare()
    share.update("a", {"b"})
    for _ in range(PATIENCE + 1):
        share.look(dict.fromkeys(range(COUNT), f"{STEM}1"))
    assert share.partitions == frozenset(range(COUNT))
    share.update("a", {"b", "c"})
    assert len(share.partitions) < COUNT


@pytest.mark.parametrize(
    ("group", "rows", "moved"),
    [
        (f"{STEM}1", [f"{STEM}5", f"{STEM}3", f"{STEM}9"], f"{STEM}3"),
        (f"{STEM}1", [f"{STEM}5", f"{LATER}2"], f"{STEM}5"),
        (f"{STEM}1", [f"{STEM}5", None], None),
        (f"{STEM}4", [f"{STEM}5", f"{STEM}4"], None),
        (f"{STEM}4", [f"{STEM}5", f"{STEM}2"], None),
        (f"{STEM}1", [f"{STEM}5", "0123456789ab.t2-0000000c.9"], None),
        (f"{STEM}1", [f"{STEM}5", "aaaaaaaaaaaa.t1-0000000a.9"], None),
        (None, [f"{STEM}5", f"{STEM}3"], f"{STEM}3"),
    ],
    ids=[
        "the smallest", "by timelines first", "one has none", "one has not moved", "one is behind",
        "one of a lost history", "one of another journal", "no cursor yet",
    ],
)  # fmt: skip
def test_the_groups_cursor_follows_the_partition_that_is_settled_least(
    group: str | None, rows: list[str | None], moved: str | None
) -> None:
    assert settled_by_all(group, rows, {STEM, LATER}) == moved


def message(stem: str, numbers: list[int], upto: int, *bodies: bytes, unlost: str = "partitions") -> bytes:
    header = {"unlost": unlost, "stem": stem, "numbers": numbers, "upto": upto}
    return b"\n".join([msgspec.json.encode(header), *bodies])


def test_events_arrive_with_their_partitions_and_cursors() -> None:
    arrivals = Arrivals(range(COUNT))
    arrived = arrivals.read([message(STEM, [3, 7], 9, b"{1}", b"{2}"), message(LATER, [], 12)])
    assert [(one.body, one.partition, one.cursor) for one in arrived] == [
        (b"{1}", partition_of(b"{1}"), f"{STEM}3"), (b"{2}", partition_of(b"{2}"), f"{STEM}7")
    ]  # fmt: skip
    assert (arrivals.cursor, arrivals.stems) == (f"{LATER}12", {STEM, LATER})


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"[]", b"{}", message(STEM, [8], 9), message(STEM, [], 9, b"{1}"), message("another.", [], 9),
        message(STEM, [9], 8, b"{1}"), message(STEM, [5], 9, b"{1}"), message(STEM, [8, 8], 9, b"{1}", b"{2}"),
        message(STEM, [], 4), message(STEM, [], 10**18), message(STEM, [-1], 9, b"{1}"),
        message(STEM, [8], 9, b"{1}", unlost="lines"), message(STEM, list(range(6, 5_000)), 5_000, *[b"{1}"] * 4_994),
    ],
)  # fmt: skip
def test_anything_else_ends_the_session(wrong: bytes) -> None:
    arrivals = Arrivals(range(COUNT))
    arrivals.read([message(STEM, [], 5)])
    with pytest.raises(SourceEnded, match="not in the format of partitions"):
        arrivals.read([wrong])
    assert arrivals.cursor == f"{STEM}5"


def test_an_event_of_another_partition_ends_the_session() -> None:
    arrivals = Arrivals(set(range(COUNT)) - {partition_of(b"{1}")})
    with pytest.raises(SourceEnded, match="another partition"):
        arrivals.read([message(STEM, [3], 9, b"{1}")])


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_arrive_or_end_the_session(noise: bytes) -> None:
    arrivals = Arrivals(range(COUNT))
    with contextlib.suppress(SourceEnded):
        arrivals.read([noise, message(STEM, [], 5) + noise])
    assert arrivals.cursor in (None, f"{STEM}5") or noise.startswith(b"{")
