"""``unlost up`` runs the whole system on this machine until Ctrl-C; ``unlost check`` runs, verifies and stops it."""

import asyncio
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import click
from pydantic import Field, model_validator
from rich.console import Console
from rich.markup import escape

from unlost.ops.kit.access.table import WrongTokens
from unlost.ops.kit.command import Settings, UsageProblem, command
from unlost.ops.system.available import LISTENERS_OF_HA, available_system, keep_apart
from unlost.ops.system.check import verified
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.installed import WHEELS, Origin
from unlost.ops.system.layout import NAMES, Layout, Ports, executable, free_ports, write_environment
from unlost.ops.system.reserved import Obstacle, reserved
from unlost.ops.system.restarts import StartStep
from unlost.ops.system.system import System, SystemStopped


class UpSettings(Settings):
    """The directory and the ports of the local system."""

    data: Path = Field(Path(".unlost"), description="Directory of all data and logs")
    producer_port: int = Field(3005, ge=1, le=65535, description="Port to publish to")
    ws_port: int = Field(8080, ge=1, le=65535, description="Port of the event stream")
    listener_port: int = Field(3000, ge=1, le=65535, description="Port of the first listener; the others follow it")
    listener_count: int = Field(2, ge=1, le=len(NAMES), description="Number of listeners")
    postgres_port: int = Field(54320, ge=1, le=65535, description="Port of PostgreSQL")
    redis_port: int = Field(63790, ge=1, le=65535, description="Port of Valkey (Redis)")
    postgres: Origin = Field(
        "wheel", description="PostgreSQL of unlost[local], or the one (15 or newer) that is installed on this machine"
    )
    redis: Origin = Field(
        "wheel", description="Valkey of unlost[local], or the Valkey or Redis that is installed on this machine"
    )
    ha: bool = Field(
        False,
        description="Start three Valkeys with Sentinels, a standby of PostgreSQL, two producers behind HAProxy and, if "
        "you give no number, four listeners: kill any of them, and watch",
    )
    console_port: int = Field(3006, ge=1, le=65535, description="Port of the console")

    def wheels(self) -> tuple[str, ...]:
        """The packages that bring servers along."""
        origins = (self.postgres, self.redis)
        return tuple(name for origin, name in zip(origins, WHEELS, strict=True) if origin == "wheel")

    def ports(self) -> Ports:
        """All ports."""
        count = LISTENERS_OF_HA if self.ha and "listener_count" not in self.model_fields_set else self.listener_count
        listeners = tuple(self.listener_port + number for number in range(count))
        return Ports(
            self.producer_port, self.ws_port, listeners, self.postgres_port, self.redis_port, self.console_port
        )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        seen: dict[int, str] = {}
        for flag, port in self.ports().named():
            if port > 65535:
                raise ValueError(f"--listener-count leads to port {port}; lower --listener-port")
            if port in seen:
                raise ValueError(f"{seen[port]} and {flag} are both {port}; choose two ports")
            seen[port] = flag
        return self


class CheckSettings(Settings):
    """The size of the system."""

    listener_count: int = Field(2, ge=1, le=len(NAMES), description="Number of listeners")


@command(
    UpSettings,
    examples=[
        "unlost up", "unlost up --data /tmp/unlost --listener-count 3", "unlost up --postgres system",
        "unlost up --ha --data /tmp/unlost-ha",
    ],
)  # fmt: skip
def up(settings: UpSettings) -> int:
    """Start PostgreSQL, Valkey, producer, listeners and console on this machine, without Docker.

    With --ha, none of them stands alone: the Sentinels, HAProxy and this command itself, for PostgreSQL, put another in
    the place of one that dies. It needs HAProxy, and a directory of its own.
    """
    console = Console(highlight=False, soft_wrap=True)
    layout = Layout(settings.data.absolute(), settings.ports())
    try:
        with _stopping_on_signals() as stopping, reserved(layout, settings.wheels()):
            layout = layout.with_tokens()
            say = _reporter(console)
            if settings.ha:
                keep_apart(layout.data, ha=True)
                system = available_system(layout, say, stopping, settings.postgres, settings.redis)
            else:
                keep_apart(layout.data, ha=False)
                system = System(
                    layout, say, stopping, by_socket=True, narrow=True, postgres_from=settings.postgres,
                    redis_from=settings.redis,
                )  # fmt: skip
            return _run(system, lambda: _serve(console, layout, system))
    except Obstacle as obstacle:
        raise UsageProblem(*obstacle.problems) from None
    except WrongTokens as error:
        raise UsageProblem(str(error)) from None


@command(CheckSettings, examples=["unlost check", "unlost check --listener-count 1"])
def check(settings: CheckSettings) -> int:
    """Start the whole system on free ports, publish, verify each row, stop; exit 0 if all is well."""
    return _check(Console(highlight=False, soft_wrap=True), settings.listener_count)


def _run(system: System, then: Callable[[], bool | None]) -> int:
    """Start, call ``then``, and watch if it returns None; stop in any case."""
    try:
        system.start()
        well = then()
        return 0 if (system.watch() if well is None else well) else 1
    except SystemStopped:
        return 0
    except ChildFailed as failed:
        click.echo(f"error: {failed}", err=True)
        return 1
    finally:
        system.stop()


def _serve(console: Console, layout: Layout, system: System) -> None:
    more = {} if system.roles is None else {"HANDLER_ROLE": system.roles.settings["HANDLER_ROLE"]}
    if system.pair is not None:
        write_environment(layout, system.pair.url, system.redis_url, journal=system.journal_url, **more)
    else:
        write_environment(layout, system.postgres.url, system.valkey.url_of_group, **more)
    console.print(_welcome(layout), markup=False)


def _welcome(layout: Layout) -> str:
    listeners = [
        f"  listener {name}  {url}/" for name, url in zip(layout.listener_names, layout.listener_urls, strict=True)
    ]
    lines = [
        "",
        "Unlost is up.",
        f"  console     {layout.console_url}/",
        f"  publish     {layout.producer_url}/",
        f"  stream      {layout.stream_url}",
        *listeners,
        f"  logs        {layout.data}/logs/",
        "",
        *_for_the_user(layout),
        "Try it:",
        f"  curl {_header(layout)}-X POST {layout.producer_url}/publish \\",
        """    -d '{"event_id": "hello-1", "payload": {"greeting": "hello"}}'""",
        f"  curl {_header(layout)}{layout.listener_urls[0]}/api/events",
        "",
        "Let unlost and dlq find this system:",
        f"  set -a; . {_shown(layout.environment_file)}; set +a",
        f"  {_shown(executable('unlost'))} audit",
        "",
        f"Ctrl-C stops everything; the data stays in {layout.data}.",
    ]
    return "\n".join(lines)


def _for_the_user(layout: Layout) -> list[str]:
    """How to use the token, which the console asks for too. It is the user's own terminal that shows it."""
    if layout.tokens is None:
        return []
    return [
        "Your token, which the console asks for (other users of this machine can do nothing without it):",
        f"  {layout.tokens.user}",
        "",
    ]


def _header(layout: Layout) -> str:
    return f"-H @{_shown(layout.tokens.header_file)} " if layout.tokens else ""


def _shown(path: Path) -> str:
    """A relative path if the file is below the working directory."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _check(console: Console, listeners: int) -> int:
    directory = Path(tempfile.mkdtemp(prefix="unlost-check-"))
    directory.chmod(0o711)  # if this user is root, PostgreSQL runs as another user
    layout = Layout(directory, free_ports(listeners))

    problems = ["it was stopped before it had finished"]

    def verify() -> bool:
        problems[:] = asyncio.run(verified(layout, system.postgres.url, lambda line: console.print(line, markup=False)))
        return not problems

    try:
        with _stopping_on_signals() as stopping, reserved(layout):
            system = System(layout, _reporter(console), stopping, by_socket=True, narrow=True)
            code = _run(system, verify)
    except Obstacle as obstacle:
        raise UsageProblem(*obstacle.problems) from None
    if not code and not problems:
        shutil.rmtree(directory, ignore_errors=True)
        console.print("[bold green]PASS[/]")
        return 0
    for problem in problems:
        console.print(f"failed: {problem}", markup=False)
    console.print(f"[bold red]FAIL[/]  data and logs are kept in {escape(str(directory))}")
    return 1


def _reporter(console: Console) -> Callable[[StartStep], None]:
    def report(step: StartStep) -> None:
        color = "green" if step.well else "red"
        detail = f"\n{step.detail}" if "\n" in step.detail else f"  {step.detail}"
        console.print(f"[{color}]{escape(f'{step.name:<11}')}[/] {escape(step.what)}{escape(detail.rstrip())}")

    return report


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """Provide an event that Ctrl-C, SIGTERM and a closed terminal set. A second signal has no further effect."""
    stopping = threading.Event()
    before = {
        one: signal.signal(one, lambda *_: stopping.set()) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stopping
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
