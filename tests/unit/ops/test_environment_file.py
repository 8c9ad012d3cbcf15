"""The file that lets commands find a local system has everything that they need to act on the same events."""

import shlex
from pathlib import Path

from unlost.ops.system.layout import Layout, free_ports, write_environment


def test_it_names_handler_group_letters_and_journal(tmp_path: Path) -> None:
    layout = Layout(tmp_path, free_ports(2), {"HANDLER": "shop:handle", "GROUP": "EU"})
    write_environment(layout, "postgresql://p", "redis://r")
    values = dict(line.split("=", 1) for line in layout.environment_file.read_text().splitlines())
    shown = {name: shlex.split(value)[0] for name, value in values.items()}
    assert (shown["HANDLER"], shown["GROUP"]) == ("shop:handle", "EU")
    assert Path(shown["JOURNAL"]) == tmp_path / "producer" / "journal.sqlite"
    assert shown["LETTERS"].split(",") == [str(tmp_path / name / "failed_events.jsonl") for name in "ab"]
