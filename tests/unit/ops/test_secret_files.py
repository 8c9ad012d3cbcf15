"""Secrets of the processes of a local system stand in files, which only their owner may read."""

import stat
from pathlib import Path

import pytest

from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.secret_files import forget_secrets, with_secrets_in_files

URL = "postgresql://u:hidden@db/x"


def test_a_secret_is_named_by_its_file_alone(tmp_path: Path) -> None:
    outer = {"DATABASE_URL": "postgresql://u:of-the-shell@db/", "REDIS_URL_FILE": "/run/earlier", "PATH": "/bin"}
    settings = {"DATABASE_URL": URL, "REDIS_URL": "redis://u:hidden@r/", "UNLOST_TOKEN": "", "PORT": "1"}
    made = with_secrets_in_files(outer, settings, tmp_path)
    assert set(made) == {"DATABASE_URL_FILE", "REDIS_URL_FILE", "UNLOST_TOKEN", "PATH", "PORT"}
    assert Path(made["DATABASE_URL_FILE"]).read_text() == URL
    assert made["UNLOST_TOKEN"] == ""
    assert not [one for one in made.values() if "hidden" in one or "of-the-shell" in one]
    for file in (made["DATABASE_URL_FILE"], made["REDIS_URL_FILE"]):
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(made["DATABASE_URL_FILE"]).parent.stat().st_mode) == 0o700
    other = with_secrets_in_files(outer, {"DATABASE_URL": f"{URL}2"}, tmp_path)
    assert Path(made["DATABASE_URL_FILE"]).read_text() == URL, "another process has another file"
    assert Path(other["DATABASE_URL_FILE"]).read_text() == f"{URL}2"
    forget_secrets(tmp_path)
    assert not any(tmp_path.rglob("*"))
    forget_secrets(tmp_path)


@pytest.mark.parametrize(("journal", "in_file"), [("/data/journal.sqlite", False), ("postgresql://u:p@h/j", True)])
def test_a_journal_on_a_server_is_a_secret_and_a_path_is_none(tmp_path: Path, journal: str, in_file: bool) -> None:
    assert ("JOURNAL_FILE" in with_secrets_in_files({}, {"JOURNAL": journal}, tmp_path)) is in_file


def test_no_process_has_a_secret_in_its_environment(tmp_path: Path) -> None:
    layout = Layout(tmp_path, free_ports(2, console=True)).with_tokens()
    tokens = layout.tokens
    assert tokens is not None
    children = [layout.producer(), *layout.listeners(URL, URL), layout.console(URL, URL, REPLAY_DATABASE_URL=URL)]
    for child in children:
        shown = " ".join(child.environment.values())
        assert not [one for one in ("hidden", tokens.producer, tokens.listener, tokens.console) if one in shown]
