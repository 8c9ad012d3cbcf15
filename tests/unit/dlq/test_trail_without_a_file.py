"""The trail of a replay of the fleet's list, where PostgreSQL does not answer and no file of letters was ever used."""

from pathlib import Path

import pytest

from unlost.dlq.commands.replay import ReplaySettings
from unlost.dlq.commands.trail import noted
from unlost.dlq.record.trail import Act


async def test_a_trail_that_cannot_be_written_is_a_warning_and_the_report_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    act = Act("ana", "dlq replay", "replayed", "all in the fleet's list", "", "0 resolved, 0 failed")
    await noted(ReplaySettings.load({}), (), act, away=True)
    err = capsys.readouterr().err
    assert "PostgreSQL does not answer" in err
    assert "failed_events.jsonl" in err
