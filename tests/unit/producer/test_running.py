"""How a producer ends: each error of its tasks becomes one sentence or an exit code, in a group or by itself."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.command import UsageProblem
from unlost.producer.app import running
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.journal.moves import Mark, Moved
from unlost.producer.journal.port import HistoryLost, JournalError

EndsWith: TypeAlias = Callable[[Exception], int]


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> EndsWith:
    def run(error: Exception) -> int:
        def daemon(_: object) -> None:
            raise error

        monkeypatch.setattr(running, "run_daemon", daemon)
        monkeypatch.setattr(running, "configure_logs", lambda *_: None)
        return running.run_producer(ProducerSettings())

    return run


@pytest.mark.parametrize("error", [
    JournalError("no room"), Misconfigured("no room"), ExceptionGroup("", [JournalError("no room")]),
    ExceptionGroup("", [ExceptionGroup("", [JournalError("no room")]), HistoryLost("other")]),
])  # fmt: skip
def test_what_a_new_start_does_not_help_is_one_sentence(ends_with: EndsWith, error: Exception):
    with pytest.raises(UsageProblem) as raised:
        ends_with(error)
    assert str(raised.value) == "no room"


@pytest.mark.parametrize("others", [[], [JournalError("other")], [HistoryLost("other")]])
def test_of_several_a_journal_that_has_moved_counts(ends_with: EndsWith, others: list[Exception]):
    moved = Moved("here", Mark("moved", "there"))
    with pytest.raises(UsageProblem) as raised:
        ends_with(ExceptionGroup("", [*others, moved]))
    assert str(raised.value) == str(moved)


@pytest.mark.parametrize("error", [HistoryLost("gone"), ExceptionGroup("", [HistoryLost("gone")])])
def test_a_lost_history_is_an_exit_code_with_which_it_is_started_again(ends_with: EndsWith, error: Exception):
    assert ends_with(error) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), ExceptionGroup("", [JournalError("a"), ZeroDivisionError()])])
def test_an_unexpected_error_stays_what_it_is(ends_with: EndsWith, error: Exception):
    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as raised:
        ends_with(error)
    assert raised.value is error
