"""REDIS_URL is one server, nodes of a Cluster, or Sentinels; and a Cluster's topology chooses the slots of a group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from redis.exceptions import InvalidResponse

from unlost.listener.claims.redis.address import read_address
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.claims.redis.topology import MOST_SHARDS, SLOTS, Node, SlotRange, shards, slot_ranges
from unlost.listener.core.errors import Misconfigured


def test_one_server_is_as_it_was():
    address = read_address("redis://u:p@h:7/3?client_name=x")
    assert address.urls == ("redis://u:p@h:7/3?client_name=x",)
    assert address.of("other", 8) == "redis://u:p@other:8/3?client_name=x"


def test_several_hosts_share_login_database_and_options():
    address = read_address("rediss://u:p,w@a:1,b,[::1]:3/0?x=y")
    assert address.urls == ("rediss://u:p,w@a:1/0?x=y", "rediss://u:p,w@b/0?x=y", "rediss://u:p,w@[::1]:3/0?x=y")
    assert address.of("::2", 4) == "rediss://u:p,w@[::2]:4/0?x=y"


def test_sentinels_have_a_login_of_their_own():
    url = "rediss+sentinel://u:p@a,b:5/claims/2?sentinel_password=s%2F%40&ssl_ca_certs=/ca.pem"
    address = read_address(url)
    assert address.service == "claims"
    assert address.urls == (
        "rediss://:s%2F%40@a:26379?ssl_ca_certs=%2Fca.pem", "rediss://:s%2F%40@b:5?ssl_ca_certs=%2Fca.pem",
    )  # fmt: skip
    assert address.of("c", 6) == "rediss://u:p@c:6/2?ssl_ca_certs=%2Fca.pem"
    assert read_address("redis+sentinel://a/claims").of("c", 6) == "redis://c:6"


def test_braces_in_a_password_are_no_host():
    assert read_address("redis://:p{}w@a/0").of("h", 1) == "redis://:p%7B%7Dw@h:1/0"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://a:1,b:2", "need the name of their primary"),
        ("redis://a:1,,b:2/0", "a host is empty"),
        ("http://h/", "redis://"),
        ("redis://a:x,b/0", "Port"),
    ],
)
def test_an_unreadable_address_is_refused_with_a_sentence(url: str, why: str):
    with pytest.raises(Misconfigured, match=f"^REDIS_URL is no address of a Redis: .*{why}"):
        redis_servers(url)


def tag(number: int) -> bytes:
    return b"{g.%d}" % number


def spread(primaries: int) -> list[SlotRange]:
    own = SLOTS / primaries
    return [SlotRange(round(i * own), round((i + 1) * own) - 1, Node(f"n{i}", 1)) for i in range(primaries)]


@given(st.integers(1, 80))
def test_each_primary_gets_a_slot_of_its_own(primaries: int):
    ranges = spread(primaries)
    found = shards(ranges, tag)
    assert len(found) == min(primaries, MOST_SHARDS)
    assert list(found.values()) == sorted(found.values())
    assert found[ranges[0].node if key_slot(tag(0)) <= ranges[0].last else next(iter(found))] is not None
    for node, number in found.items():
        (own,) = [one for one in ranges if one.node == node]
        assert own.first <= key_slot(tag(number)) <= own.last


def test_a_failover_changes_no_slot():
    before = spread(3)
    after = [one._replace(node=Node("replica", 1)) if one.node.host == "n1" else one for one in before]
    assert list(shards(before, tag).values()) == list(shards(after, tag).values())


def test_slots_that_nobody_keeps_are_not_used():
    assert shards([], tag) == {}
    held = SlotRange(key_slot(tag(5)), key_slot(tag(5)), Node("n", 1))
    assert shards([held], tag) == {held.node: 5}


def test_reads_an_answer_and_completes_the_host_that_was_asked():
    reply = [
        [8192, 16383, [b"10.0.0.2", 7001, b"id", []], [b"10.0.0.3", 7002, b"id"]],
        [0, 8191, [None, 7000, b"id"]],
    ]
    assert slot_ranges(reply, "seed") == [
        SlotRange(0, 8191, Node("seed", 7000)), SlotRange(8192, 16383, Node("10.0.0.2", 7001)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "reply",
    [
        None, b"x", 1, [1], [[0, 1]], [[0, 16384, [b"h", 1]]], [[2, 1, [b"h", 1]]], [[0, 1, [b"h", 0]]],
        [[0, 1, [b"x@evil/", 1]]], [[0, 1, [b"\xff", 1]]], [[0, 1, ["h", 1]]], [[0, b"1", [b"h", 1]]],
    ],
)  # fmt: skip
def test_another_answer_is_not_believed(reply: object):
    with pytest.raises(InvalidResponse, match="asked for hash slots"):
        slot_ranges(reply, "seed")
