"""Between which two queries a row became visible."""

from hypothesis import given
from hypothesis import strategies as st

from unlost.ops.bench.latency import became_visible, missed


def test_a_transaction_is_seen_when_a_snapshot_has_it_begun_and_no_longer_running():
    looks = [("5:5:", 1.0), ("5:8:5,6", 2.0), ("6:9:6,8", 3.0), ("9:9:", 4.0)]
    assert became_visible(looks, [5, 6, 7, 8]) == {7: 1.5, 5: 2.5, 6: 3.5, 8: 3.5}


def test_a_row_that_no_query_saw_has_no_visible_time():
    assert became_visible([("5:6:5", 1.0)], [5, 6]) == {}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), max_size=20))
def test_looks_see_what_has_committed_before_them_and_nothing_earlier(spans: list[tuple[int, int]]):
    transactions = {number: (begun, begun + lasts) for number, (begun, lasts) in enumerate(sorted(spans), 3)}
    looks = []
    for moment in range(0, 40, 3):
        begun = [number for number, (at, _) in transactions.items() if at <= moment]
        running = [number for number in begun if transactions[number][1] > moment]
        end = max(begun, default=2) + 1
        looks.append((f"{min(running, default=end)}:{end}:{','.join(map(str, running))}", float(moment)))
    looked = {number: -(-ended // 3) * 3.0 for number, (_, ended) in transactions.items()}
    due = {number: at - 1.5 if at else at for number, at in looked.items()}
    assert became_visible(looks, transactions) == due


def test_a_late_send_stands_for_all_that_should_have_followed():
    assert missed(0.5, 1.0) == []
    assert missed(1.0, 1.0) == []
    assert missed(3.5, 1.0) == [2.5, 1.5, 0.5]
