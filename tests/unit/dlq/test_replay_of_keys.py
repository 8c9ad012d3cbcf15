"""A replay runs letters of one key one after another, whatever order it takes them in."""

import pytest

from tests.support.replays import LettersOfOneKey, RerunOfOneKey
from unlost.dlq.commands.render import print_report
from unlost.dlq.replay.plan import ReplayLimits, ReplayReport
from unlost.dlq.replay.replaying import Replay


@pytest.mark.parametrize(
    ("order", "taken", "failing", "runs", "stored", "behind"),
    [
        ("abc", "abc", "", "abc", 3, ""),
        ("abc", "bac", "", "bac", 1, "bc"),
        ("abc", "abc", "b", "ab", 1, "c"),
        ("abc", "bc", "", "bc", 0, "bc"),
    ],
)
async def test_letters_of_a_key(order: str, taken: str, failing: str, runs: str, stored: int, behind: str):
    rerun, letters = RerunOfOneKey(order, failing), LettersOfOneKey(taken)
    replay = Replay(rerun, letters, ReplayLimits(), lambda _: None)  # type: ignore[arg-type]
    report: ReplayReport = await replay.run()
    assert (rerun.runs, report.stored, report.behind, letters.freed) == (runs, stored, len(behind), behind)
    assert report.exit_code() == (1 if behind else 0)


def test_a_letter_behind_another_of_its_key_is_reported_as_blocked(capsys: pytest.CaptureFixture[str]):
    print_report(ReplayReport(behind=1), 1)
    said = capsys.readouterr().out
    assert "blocked      1 by an earlier letter of the same key, see dlq keys" in said
    assert "not reached" not in said
