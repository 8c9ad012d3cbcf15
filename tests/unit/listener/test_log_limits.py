"""Many failures in one second do not fill the log: it says that lines are left out."""

from typing import Any

from unlost.listener.core.facts import AttemptFailed, EventBuried, Fact, RoutePaused
from unlost.listener.observe.logs import MOST_ALIKE, MOST_KINDS, ListenerLogs


class Lines:
    """Keeps the names of lines."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.fields: list[dict[str, Any]] = []

    def warning(self, name: str, **fields: Any) -> None:
        self.names.append(name)
        self.fields.append(fields)

    debug = info = error = warning


def failed(number: int) -> Fact:
    return AttemptFailed("handle", "transient", "refused", True, 1, f"e{number}", "ConnectionError", None)


def test_a_few_of_many_failures_in_a_second_are_logged_and_one_says_so() -> None:
    lines, now = Lines(), [7.2]
    logs = ListenerLogs(debug=False, log=lines, clock=lambda: now[0])
    for number in range(3 * MOST_ALIKE):
        logs(failed(number))
    assert lines.names == ["attempt_failed"] * MOST_ALIKE + ["lines_left_out"]
    assert lines.fields[-1] == {
        "of": "attempt_failed", "stage": "handle", "error_class": "transient", "logged_in_this_second": MOST_ALIKE
    }  # fmt: skip
    logs(EventBuried("e", "exhausted", "transient", "refused"))
    logs(RoutePaused("h", "refused"))
    assert lines.names[-2:] == ["event_buried", "route_paused"], "others have their own limit, or none"
    now[0] = 8.1
    logs(failed(0))
    assert lines.names[-1] == "attempt_failed"


def test_failures_of_another_stage_or_class_are_logged_beside_many_of_a_handler() -> None:
    lines = Lines()
    logs = ListenerLogs(debug=False, log=lines, clock=lambda: 7.2)
    for number in range(3 * MOST_ALIKE):
        logs(failed(number))
    logs(AttemptFailed("store", "misconfigured", "permission denied", True, 1, "e", "InsufficientPrivilege", None))
    assert lines.fields[-1]["message"] == "permission denied"
    logs(AttemptFailed("handle", "permanent", "no such sku", False, 1, "e", "ValueError", None))
    assert lines.fields[-1]["message"] == "no such sku"


def test_the_lines_of_a_second_are_bounded_however_many_kinds_of_failures_there_are() -> None:
    lines = Lines()
    logs = ListenerLogs(debug=False, log=lines, clock=lambda: 7.2)
    for number in range(100 * MOST_KINDS):
        for _ in range(MOST_ALIKE):
            logs(AttemptFailed(f"stage {number}", "transient", "refused", True, 1, "e", "ValueError", None))
    assert len(lines.names) <= (MOST_KINDS + 1) * (MOST_ALIKE + 1)
    assert lines.names[-1] == "lines_left_out"
