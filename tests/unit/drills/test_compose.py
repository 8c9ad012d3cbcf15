"""A compose project as a stage: calls with time limits, files copied back unchanged, and refused projects.

The engine is a script here: ``exec`` runs its command on this machine. docs/drills-compose.md covers real containers.
"""

import os
import shlex
from pathlib import Path

import pytest

from unlost.ops.faults.drills.compose_calls import Compose
from unlost.ops.faults.drills.compose_stage import compose_stage
from unlost.ops.faults.drills.drill import RECORD
from unlost.ops.faults.drills.stage import StageError

SERVICES = "listener-a listener-b postgres producer redis"
HERE = 'shift 3; exec "$@"'


def engine(directory: Path, script: str) -> str:
    file = directory / "engine"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return shlex.quote(str(file))


async def test_files_come_back_as_they_are_and_missing_ones_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").write_text('{"a": 1}\n{"b": "\\u001e"}\n')
    (tmp_path / "two words").write_text("no line end")
    compose = Compose(engine(tmp_path, HERE))
    found = await compose.files("listener-a", ["one", "missing", "two words"])
    assert found == ['{"a": 1}\n{"b": "\\u001e"}\n', "", "no line end"]


async def test_a_container_that_cannot_be_asked_has_no_empty_files(tmp_path: Path):
    compose = Compose(engine(tmp_path, "echo container is paused >&2; exit 1"))
    with pytest.raises(StageError, match="ended with 1: container is paused"):
        await compose.files("listener-a", ["one"])


async def test_a_call_that_never_ends_is_ended_and_reported(tmp_path: Path):
    pid = tmp_path / "pid"
    compose = Compose(
        engine(tmp_path, f"echo $$ > {shlex.quote(str(pid))}.new; mv {pid}.new {pid}; exec sleep 600"), seconds=5
    )
    with pytest.raises(StageError, match="pause redis did not end within 5 s"):
        await compose.call("pause", "redis")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_command_that_is_not_there_is_reported():
    with pytest.raises(StageError, match="give --compose-command"):
        await Compose("/nowhere/docker compose").run("ps")


def settings(handler: str, lease: float) -> str:
    shown = f'{{"handler": "{handler}", "lease": {lease}}}'
    return f"case $1 in ps) printf '%s\\n' {SERVICES};; exec) echo '{shown}';; esac"


@pytest.mark.parametrize("handler", ["", "shop.orders:handle"])
async def test_a_project_whose_handler_writes_no_run_down_is_refused(tmp_path: Path, handler: str):
    with pytest.raises(StageError, match=r"ops/deploy/compose/drills\.env"):
        await compose_stage(
            engine(tmp_path, settings(handler, 30.0)),
            producer_url="",
            listener_urls=("a", "b"),
            console=None,
            headers={},
        )


async def test_the_lease_is_learnt_from_the_listeners(tmp_path: Path):
    command = engine(tmp_path, settings(RECORD, 7.5))
    stage = await compose_stage(command, producer_url="", listener_urls=("a", "b"), console=None, headers={})
    assert (stage.lease, list(stage.listeners)) == (7.5, ["listener-a", "listener-b"])


async def test_a_project_of_which_a_part_is_missing_is_refused(tmp_path: Path):
    command = engine(tmp_path, "printf '%s\\n' listener-a producer redis")
    with pytest.raises(StageError, match="no running project"):
        await compose_stage(command, producer_url="", listener_urls=("a",), console=None, headers={})
