"""A listener compares its handler with those of its peers."""

from unlost.listener.claims.agreement import Agreement
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.membership import Member, MembershipView


def test_the_reason_is_the_same_text_in_whatever_order_peers_are_seen():
    peers = [Member(token=name, instance_id=name, handler="shop:other", agreed=True) for name in "abc"]
    reasons = set()
    for members in (peers, peers[::-1]):
        agreement = Agreement("shop:handle")
        agreement.see(
            MembershipView("me", frozenset(), {}, "postgres:x", StoreMark("x", 1, "y"), False, tuple(members))
        )
        reasons.add(agreement.why_not())
    assert len(reasons) == 1
