"""``python -m grafana.pictures``: run the scene, query, draw into ``docs/pictures``. It takes about five minutes."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from grafana.pictures.drawn import drawn
from grafana.pictures.queried import Board
from grafana.pictures.scene import played

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def main() -> int:
    """Draw all dashboards."""
    parser = argparse.ArgumentParser(prog="python -m grafana.pictures", description="Draw every dashboard.")
    parser.add_argument(
        "--answers", type=Path, help="where Prometheus's answers are kept; drawn again if they are there"
    )
    parser.add_argument("--to", type=Path, default=PICTURES, help="directory of the pictures")
    arguments = parser.parse_args()
    program = shutil.which("prometheus")
    if arguments.answers and arguments.answers.exists():
        answers = msgspec.json.decode(arguments.answers.read_bytes(), type=dict[str, Board])
    elif program is None:
        print("error: prometheus is not on the PATH; install Debian's package of this name", file=sys.stderr)
        return 2
    else:
        with tempfile.TemporaryDirectory(prefix="unlost-pictures-") as directory:
            answers = played(program, Path(directory))
        if arguments.answers:
            arguments.answers.write_bytes(msgspec.json.encode(answers))
    for name, board in answers.items():
        (arguments.to / f"dashboard-{name}.svg").write_text(drawn(board))
    return 0


if __name__ == "__main__":
    sys.exit(main())
