"""When the journal's log is moved: often enough that no commit has to, and no more often."""

import pytest

from producer.daemon import MOVE_LATEST, MOVE_SOONEST, WORTH_MOVING, next_pause


@pytest.mark.parametrize(
    ("pause", "pages", "then"),
    [
        (1.0, 0, MOVE_LATEST),
        (1.0, WORTH_MOVING // 2, 2.0),
        (2.0, WORTH_MOVING, 2.0),
        (4.0, 2 * WORTH_MOVING, 2.0),
        (4.0, 100 * WORTH_MOVING, MOVE_SOONEST),
    ],
)
def test_the_next_pause_brings_as_much_as_is_worth_it(pause: float, pages: int, then: float) -> None:
    assert next_pause(pause, pages) == pytest.approx(then)
