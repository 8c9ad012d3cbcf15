"""Members on different Redis databases, or with the same name, are reported. A restart or failover is not."""

from unlost.listener.claims.members import LASTS_SECONDS, Members, differences
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.membership import Member, MembershipView

A, OTHER_DATABASE, OTHER_SERVER, POSTGRES = "redis:aa.m1", "redis:aa.m2", "redis:bb.m1", "postgres:1"

MARK = StoreMark("g", 0, "1")


def look(mine: set[str], **peers: set[str]) -> MembershipView:
    named = {name.replace("__", ":"): frozenset(places) for name, places in peers.items()}
    members = tuple(Member(token, token.partition(":")[0], None) for token in named if not token.endswith("replay"))
    return MembershipView("a:1", frozenset(mine), named, POSTGRES, MARK, members=members)


def test_members_that_are_set_up_alike_are_well():
    assert not [*differences(look({A}, b__2={A}, c__3={A, POSTGRES}, d__4={POSTGRES}))]
    assert not [*differences(look({POSTGRES}, b__2={A}))], "this one is cut off for now"


def test_members_on_different_databases_or_servers():
    (shown,) = differences(look({A, POSTGRES}, b__2={OTHER_DATABASE, POSTGRES}))
    assert shown.startswith("listener b keeps its claims in another database of this Redis")
    (shown,) = differences(look({A, POSTGRES}, b__2={OTHER_SERVER, POSTGRES}))
    assert "in another Redis" in shown


def test_two_processes_with_one_name():
    (shown,) = differences(look({A}, a__2={A}, b__3={A}))
    assert "the same INSTANCE_ID, a:" in shown
    assert not [*differences(look({A}, a__replay={A}))], "a replay may borrow the name"


def test_only_what_lasts_is_reported():
    members, wrong = Members(), look({A}, a__2={A})
    for now in (0.0, LASTS_SECONDS - 0.1):
        members.seen(wrong, now)
        assert members.warnings() == []
    members.seen(look({A}), LASTS_SECONDS)
    members.seen(wrong, LASTS_SECONDS + 1)
    assert members.warnings() == [], "it was healthy in between"
    members.seen(wrong, 2 * LASTS_SECONDS + 1)
    assert len(members.warnings()) == 1
