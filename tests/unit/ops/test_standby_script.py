"""The script of Compose's standby, with programs that only write down how they were called."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "ops" / "deploy" / "compose" / "standby.sh"
PROGRAMS = {
    "setpriv": 'shift 3\nexec "$@"',
    "chown": "",
    "sleep": 'echo "sleep" >> "$CALLS"',
    "psql": 'echo "psql $PGPASSWORD $*" >> "$CALLS"\n[ $(grep -c ^psql "$CALLS") -gt "$REFUSALS" ]',
    "pg_basebackup": 'echo "copy $PGPASSWORD" >> "$CALLS"\ncd "$PGDATA"\ntouch standby.signal\necho 17 > PG_VERSION',
    "postgres": 'echo "postgres ${PGPASSWORD:-none} $*" >> "$CALLS"',
}


class Standby:
    """A data directory, and the calls that the script made."""

    def __init__(self, place: Path) -> None:
        self.data, self._calls, self._programs = place / "data", place / "calls", place / "bin"
        self._programs.mkdir()
        for name, body in PROGRAMS.items():
            (self._programs / name).write_text(f"#!/bin/sh\n{body}\n")
            (self._programs / name).chmod(0o755)
        (place / "password").write_text("secret")
        text = SCRIPT.read_text().replace("/run/unlost/password", str(place / "password"))
        self._script = place / "standby.sh"
        self._script.write_text(text.replace("/var/run/postgresql", str(place / "run")))

    def start(self, *, refusals: int = 0) -> None:
        given = {"PATH": f"{self._programs}:/usr/bin:/bin", "PGDATA": str(self.data), "CALLS": str(self._calls)}
        command = ["/bin/sh", str(self._script), "-c", "hba_file=x"]
        subprocess.run(command, check=True, timeout=30, env={**given, "REFUSALS": str(refusals)})

    def promote(self) -> None:
        (self.data / "standby.signal").unlink(missing_ok=True)

    def calls(self, name: str) -> list[str]:
        return [line for line in self._calls.read_text().splitlines() if line.startswith(name)]


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[Standby]:
    standby = Standby(tmp_path)
    yield standby
    standby.promote()  # nothing asks on


def until(standby: Standby, name: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(standby.calls(name)) < count:
        assert time.monotonic() < deadline, standby.calls("")
        time.sleep(0.01)


def test_it_copies_the_primary_lets_commits_wait_and_never_waits_for_itself(standby: Standby) -> None:
    standby.start()
    assert standby.calls("copy") == ["copy secret"]
    (asked,) = standby.calls("psql")
    assert "secret" in asked
    assert "alter system set synchronous_standby_names = 'standby'" in asked
    (started,) = standby.calls("postgres")
    assert started.startswith("postgres none ")
    assert "-c synchronous_standby_names= " in started
    assert started.endswith("-c hba_file=x")
    standby.start()
    assert len(standby.calls("copy")) == 1


def test_it_starts_although_the_primary_is_away_and_asks_again_until_it_is_back(standby: Standby) -> None:
    standby.start(refusals=3)
    assert len(standby.calls("postgres")) == 1
    until(standby, "psql", 4)


def test_once_promoted_it_asks_no_other_to_wait_for_it(standby: Standby) -> None:
    standby.start(refusals=10**6)
    until(standby, "psql", 3)
    standby.promote()
    standby.start(refusals=10**6)
    assert len(standby.calls("postgres")) == 2
    deadline, seen = time.monotonic() + 30, -1
    while seen != (seen := len(standby.calls("psql"))):
        assert time.monotonic() < deadline
        time.sleep(0.3)
