"""``python -m grafana.pictures``: run the scene, query, draw into ``docs/pictures``. It takes about five minutes."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from grafana.pictures.asked import Board
from grafana.pictures.drawn import drawn
from grafana.pictures.scene import played

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def main() -> int:
    """Draw all dashboards."""
    reading = argparse.ArgumentParser(prog="python -m grafana.pictures", description="Draw every dashboard.")
    reading.add_argument(
        "--answers", type=Path, help="where Prometheus's answers are kept; drawn again if they are there"
    )
    reading.add_argument("--to", type=Path, default=PICTURES, help="directory of the pictures")
    asked = reading.parse_args()
    program = shutil.which("prometheus")
    if asked.answers and asked.answers.exists():
        told = msgspec.json.decode(asked.answers.read_bytes(), type=dict[str, Board])
    elif program is None:
        print("error: prometheus is not on the PATH; install Debian's package of this name", file=sys.stderr)
        return 2
    else:
        with tempfile.TemporaryDirectory(prefix="unlost-pictures-") as directory:
            told = played(program, Path(directory))
        if asked.answers:
            asked.answers.write_bytes(msgspec.json.encode(told))
    for name, board in told.items():
        (asked.to / f"dashboard-{name}.svg").write_text(drawn(board))
    return 0


if __name__ == "__main__":
    sys.exit(main())
