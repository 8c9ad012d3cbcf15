"""A ``compact`` killed at any point loses no letter, and no state of an existing letter."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support.letters import letter, write
from unlost.dlq.commands.compact import compact
from unlost.dlq.record.file import Located, read_letters
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states

CODE = """
import sys
from pathlib import Path
from unlost.dlq.commands.compact import compact
print(1, flush=True)
compact(Path(sys.argv[1]))
"""


def test_killed_at_any_point_nothing_that_waits_is_lost(tmp_path: Path):
    count = 4000
    path = write(tmp_path / "letters.jsonl", [letter(f"e{i}") for i in range(count)])
    sidecar = Sidecar(path)
    sidecar.append([Record(f"0123456789ab-e{i}", "archived" if i % 4 else "resolved", 1.0) for i in range(0, count, 2)])
    sidecar.close()
    whole = path.read_bytes()
    shown = sidecar_path(path).read_bytes()
    unfinished = 0
    for number in range(10):
        path.write_bytes(whole)
        sidecar_path(path).write_bytes(shown)
        process = subprocess.Popen([sys.executable, "-c", CODE, path], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"1\n"
        time.sleep(0.03 * number)  # this chooses the point of the kill
        process.kill()
        process.communicate()
        known = states(path)
        there = {one.letter.event_id for one in read_letters(path) if isinstance(one, Located)}
        unfinished += len(path.read_bytes()) == len(whole)
        assert there >= {f"e{i}" for i in range(count) if i % 4}
        assert all(known[f"0123456789ab-e{i}"].status == "archived" for i in range(2, count, 4))
        assert all(
            known[f"0123456789ab-{name}"].status == "resolved" for name in there if name and int(name[1:]) % 4 == 0
        )
    assert unfinished
    compact(path)
    assert len(list(read_letters(path))) == count * 3 // 4
    assert len(states(path)) == count // 4
