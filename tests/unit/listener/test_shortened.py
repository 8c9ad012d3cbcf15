"""Long errors keep their cause, which stands at their end."""

import pytest

from unlost.listener.core.errors import MESSAGE_LIMIT, failure_of
from unlost.listener.core.shortened import first_and_last_line, shortened


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
