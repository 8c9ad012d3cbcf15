"""Some drills, run as a user runs them. Time limits are generous, because other tests may run in parallel."""

import json
import subprocess
from pathlib import Path

import pytest

from unlost.ops.system.layout import executable

SELECTION = ("redis-frozen", "postgres-killed", "listener-killed", "rolling-deploy")


def drill(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [executable("unlost"), "drill", *arguments], capture_output=True, text=True, timeout=390, check=False
    )


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_law_holds_whoever_is_killed_or_frozen(tmp_path: Path):
    file = tmp_path / "drills.json"
    done = drill(*SELECTION, "--events", "600", "--patience", "6", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(file.read_text())
    assert [one["drill"] for one in results] == list(SELECTION)
    for one in results:
        assert one["passed"] is True
        assert (one["published"], one["rows"]) == (600, 600)
        assert (one["lost"], one["doubled"], one["letters_after_replay"]) == (0, 0, 0)
    assert results[0]["extra_handler_runs"] == 0, "no owner was killed or frozen"


def test_an_unknown_drill_is_misuse():
    done = drill("redis-melted", "postgres-sunk")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "redis-melted" in done.stderr


def test_all_drills_are_listed_within_80_columns():
    done = drill("--list")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert max(map(len, lines)) <= 80
    assert {"redis-frozen", "chaos"} <= {line.split()[0] for line in lines}
