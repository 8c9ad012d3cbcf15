"""Many failures in one second do not fill the log: it says that lines are left out."""

from typing import Any

from unlost.listener.core.facts import AttemptFailed, EventBuried, Fact, RoutePaused
from unlost.listener.observe.logs import MOST_ALIKE, ListenerLogs


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


def test_of_many_failures_in_a_second_a_few_are_logged_and_one_line_says_so() -> None:
    lines, now = Lines(), [7.2]
    logs = ListenerLogs(debug=False, log=lines, clock=lambda: now[0])
    for number in range(3 * MOST_ALIKE):
        logs(failed(number))
    assert lines.names == ["attempt_failed"] * MOST_ALIKE + ["lines_left_out"]
    assert lines.fields[-1] == {"of": "attempt_failed", "logged_in_this_second": MOST_ALIKE}
    logs(EventBuried("e", "exhausted", "transient", "refused"))
    logs(RoutePaused("h", "refused"))
    assert lines.names[-2:] == ["event_buried", "route_paused"], "others have their own limit, or none"
    now[0] = 8.1
    logs(failed(0))
    assert lines.names[-1] == "attempt_failed"
