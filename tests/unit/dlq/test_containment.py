"""Fields of the payload that letters are searched by: how they are written, and which payload contains them."""

import pytest

from unlost.dlq.record.containment import LONGEST, alternatives, contains


def test_a_field_asks_for_the_number_and_for_the_text() -> None:
    assert alternatives("order.id = 17") == ('{"order": {"id": 17}}', '{"order": {"id": "17"}}')
    assert alternatives("name=Ana Lima=x") == ('{"name": "Ana Lima=x"}',)
    assert alternatives('name="17"') == ('{"name": "17"}', '{"name": "\\"17\\""}')


@pytest.mark.parametrize(
    "text",
    [
        "order", "=1", "a..b=1", '{"a": }', "[" * 2_000, '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}',
        '{"a": "\\u0000"}', f"a={'x' * LONGEST}",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is|it has|customer\.id=17"):
        alternatives(text)


def test_truth_is_no_number_and_lists_contain_in_any_order() -> None:
    assert contains({"a": [1, {"b": 2, "c": 3}]}, {"a": [{"b": 2}, 1.0]})
    assert not contains({"a": True}, {"a": 1})
    assert not contains([1], {"a": 1})
    assert not contains({"a": 1}, [1])
