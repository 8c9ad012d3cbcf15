"""Long errors keep their cause, which stands at their end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.dlq.record.letter import cleaned
from unlost.listener.core.errors import MESSAGE_LIMIT, failure_of
from unlost.listener.core.shortened import ends_of, first_and_last_line, shortened
from unlost.ops.kit.telemetry.mask import masked


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("no such order", 13, "no such order"),
        ("0123456789", 7, "012…789"),
        ("validation failed\nfield a\nfield b\nby: gone\n", 20, "validation …by: gone"),
        ("a\n" + "0123456789" * 2, 10, "a\n01…56789"),
        ("short     ", 6, "short"),
        (" " * 9, 3, ""),
    ],
)
def test_the_beginning_and_the_last_line_stay(text: str, width: int, short: str) -> None:
    assert shortened(text, width) == short
    assert len(short) <= width


@given(offset=st.integers(0, 3_000), value=st.sampled_from(["wss://u:hunter2@host/p?k=hunter2", "password=hunter2"]))
def test_no_cut_shows_a_part_of_a_password(offset: int, value: str) -> None:
    """Masked later, half of an address is not recognised."""
    filler = "down, " * 500
    failure = cleaned(failure_of(OSError(f"{filler[:offset]} {value} {filler[offset:]}"), stage="store", at=1.0))
    assert not any(part in failure.message for part in ("hunter", "unter2", "hunt", "nter2"))


@pytest.mark.parametrize("value", ["wss://u:hunter2@host/p", "password=hunter2"])
def test_a_cut_anywhere_in_a_name_or_an_address_shows_no_part_of_its_password(value: str) -> None:
    for last in range(len(value)):
        end, begin = ends_of(f"down, {value}", 3, last)
        assert "hunter2" not in masked(end) + masked(begin)


def test_lines_between_the_first_and_the_last_are_left_out() -> None:
    assert (
        first_and_last_line("exhausted: 3 errors\n  a\n\n  caused by: gone\n")
        == "exhausted: 3 errors … caused by: gone"
    )
    assert first_and_last_line("one line") == "one line"
    assert first_and_last_line("") == ""


def test_the_failure_of_an_attempt_keeps_the_cause() -> None:
    failure = failure_of(ValueError("x" * 5_000 + "\nno such order"), stage="handle", at=1.0)
    assert (len(failure.message), failure.message[-14:]) == (MESSAGE_LIMIT, "…no such order")
