"""A drill's counts: an unreadable file becomes one sentence in the verdict, never a traceback."""

from pathlib import Path

import pytest

from unlost.ops.audit.cli import audited
from unlost.ops.faults.drills import local_stage
from unlost.ops.faults.drills.local_stage import LocalStage
from unlost.ops.faults.drills.records import open_letters
from unlost.ops.faults.drills.stage import StageError
from unlost.ops.system.layout import Layout, free_ports


def test_letters_that_cannot_be_read_are_an_error_of_the_stage(tmp_path: Path):
    assert open_letters([tmp_path / "none.jsonl"]) == [], "a listener creates its file with its first letter"
    with pytest.raises(StageError, match=r"cannot read .*: Is a directory"):
        open_letters([tmp_path])


async def test_an_audit_that_finds_no_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layout = Layout(tmp_path, free_ports(1), {"lease": "5"})
    stage = LocalStage.__new__(LocalStage)
    stage.producer_url = layout.producer_url
    monkeypatch.setattr(LocalStage, "database_url", "postgresql://nobody@127.0.0.1:1/none")
    assert audited is vars(local_stage)["audited"]
    [shown] = await stage.audit_of(layout, "unlost")
    assert shown.startswith(f"unlost audit of group unlost: there is no dead-letter file {layout.letter_files[0]}")
