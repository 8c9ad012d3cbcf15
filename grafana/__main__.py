"""``python -m grafana`` writes the dashboards, and copies the runbook to where the console finds it."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.boards import boards

HERE = Path(__file__).parent / "dashboards"
ROOT = Path(__file__).parent.parent
RUNBOOK = ROOT / "docs" / "runbook.md"
IN_CONSOLE = ROOT / "ops" / "console" / "static" / "runbook.md"


def written() -> dict[Path, str]:
    """Return each file's path and content."""
    text = RUNBOOK.read_text()
    return {HERE / f"{name}.json": encoded(board) for name, board in boards(text).items()} | {IN_CONSOLE: text}


def encoded(board: Dashboard) -> str:
    """Encode a dashboard as Grafana's JSON."""
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write all files."""
    for path, text in written().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
