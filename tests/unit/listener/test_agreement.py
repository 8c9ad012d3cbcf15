"""A listener compares its handler with those of its peers."""

from unlost.listener.claims.agreement import Agreement
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.membership import Member, MembershipView


def view(*members: Member, mine: frozenset[str] | None = frozenset()) -> MembershipView:
    return MembershipView("me", mine, {}, "postgres:x", StoreMark("x", 1, "y"), agreed=False, members=members)


def test_a_listener_alone_whose_entry_has_expired_blames_no_peer():
    agreement = Agreement("shop:handle")
    agreement.see(view(mine=None))
    assert "has expired" in agreement.why_not()
    assert "handler" not in agreement.why_not()
    agreement.see(view(Member(token="a", instance_id="a", handler="shop:other", agreed=True), mine=None))
    assert "listener a has shop:other" in agreement.why_not()


def test_the_reason_is_the_same_text_in_whatever_order_peers_are_seen():
    peers = [Member(token=name, instance_id=name, handler="shop:other", agreed=True) for name in "abc"]
    reasons = set()
    for members in (peers, peers[::-1]):
        agreement = Agreement("shop:handle")
        agreement.see(view(*members))
        reasons.add(agreement.why_not())
    assert len(reasons) == 1
