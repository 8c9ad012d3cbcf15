"""Which look was the first to see a row."""

from hypothesis import given
from hypothesis import strategies as st

from ops.bench.latency import first_seen


def test_a_transaction_is_seen_when_a_snapshot_has_it_begun_and_no_longer_running():
    looks = [("5:5:", 1.0), ("5:8:5,6", 2.0), ("6:9:6,8", 3.0), ("9:9:", 4.0)]
    assert first_seen(looks, [5, 6, 7, 8]) == {7: 2.0, 5: 3.0, 6: 4.0, 8: 4.0}


def test_what_no_look_saw_was_not_seen():
    assert first_seen([("5:6:5", 1.0)], [5, 6]) == {}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), max_size=20))
def test_looks_see_what_has_committed_before_them_and_nothing_earlier(spans: list[tuple[int, int]]):
    transactions = {number: (begun, begun + lasts) for number, (begun, lasts) in enumerate(sorted(spans), 3)}
    looks = []
    for moment in range(0, 40, 3):
        begun = [number for number, (at, _) in transactions.items() if at <= moment]
        running = [number for number in begun if transactions[number][1] > moment]
        end = max(begun, default=2) + 1
        looks.append((f"{min(running, default=end)}:{end}:{','.join(map(str, running))}", float(moment)))
    due = {number: -(-ended // 3) * 3.0 for number, (_, ended) in transactions.items()}
    assert first_seen(looks, transactions) == due
