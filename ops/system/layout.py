"""Where everything of a local system is: its directory, its ports, and the settings of each process."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, assert_never

from unlost.listener.store.postgres.statements import DEFAULT_GROUP
from unlost.ops.kit.command import Settings
from unlost.ops.kit.telemetry.files import private_descriptor, private_directory
from unlost.ops.system.balancer import Pair
from unlost.ops.system.child import Child
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.secret_files import with_secrets_in_files
from unlost.ops.system.tokens import LocalTokens, local_tokens

NAMES = "abcdefghijklmnop"


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port of a local system."""

    producer: int
    stream: int
    listeners: tuple[int, ...]
    postgres: int
    redis: int
    console: int | None = None

    def named(self) -> Iterator[tuple[str, int]]:
        """Each port, with the flag that changes it."""
        yield "--producer-port", self.producer
        yield "--ws-port", self.stream
        for port in self.listeners:
            yield "--listener-port", port
        yield "--postgres-port", self.postgres
        yield "--redis-port", self.redis
        if self.console is not None:
            yield "--console-port", self.console


def free_ports(listeners: int = 2, *, console: bool = False) -> Ports:
    """Ports that are free now."""
    found: set[int] = set()
    while len(found) < listeners + 5:
        found.add(free_port())
    producer, stream, postgres, redis, last, *rest = found
    return Ports(producer, stream, tuple(rest), postgres, redis, last if console else None)


def _straight(name: str, url: str) -> str:  # noqa: ARG001  only other routes use the name
    return url


@dataclass(frozen=True, slots=True)
class Layout:
    """The plan of a local system, before anything runs."""

    data: Path
    ports: Ports
    extra: dict[str, str] = field(default_factory=dict)
    route: Callable[[str, str], str] = _straight
    """Maps a listener's name and a server's address to the address that it connects to, such as a fault proxy's."""
    console_extra: Mapping[str, str] = field(default_factory=dict)
    """Settings for the console only, and for the replays that it runs."""
    journal_url: str = ""
    """The producer's journal, if it is on a server."""
    tokens: LocalTokens | None = None
    """Without tokens, anybody on this machine may use the system."""
    programs: Path = Path(sys.executable).parent
    """The directory of the ``unlost`` that its processes run."""

    @property
    def producer_url(self) -> str:
        """The producer's URL, to which events are published."""
        return f"http://{LOOPBACK}:{self.ports.producer}"

    @property
    def stream_url(self) -> str:
        """The URL of the event stream, which listeners read."""
        return f"ws://{LOOPBACK}:{self.ports.stream}/"

    @property
    def listener_urls(self) -> tuple[str, ...]:
        """Each listener's URL."""
        return tuple(f"http://{LOOPBACK}:{port}" for port in self.ports.listeners)

    @property
    def console_url(self) -> str | None:
        """The console's URL, if this system has a console."""
        return None if self.ports.console is None else f"http://{LOOPBACK}:{self.ports.console}"

    @property
    def letter_files(self) -> tuple[Path, ...]:
        """Each listener's dead-letter file, whether it exists yet or not."""
        return tuple(self.data / name / "failed_events.jsonl" for name in self.listener_names)

    @property
    def listener_names(self) -> str:
        """One letter for each listener."""
        return NAMES[: len(self.ports.listeners)]

    @property
    def journal(self) -> Path:
        """The producer's journal."""
        return self.data / "producer" / "journal.sqlite"

    @property
    def environment_file(self) -> Path:
        """A file of settings with which other commands find this system; a shell can source it."""
        return self.data / "env"

    def with_settings(self, **settings: str) -> "Layout":
        """The same system with additional settings."""
        return replace(self, extra={**self.extra, **settings})

    def with_listeners(self, count: int) -> "Layout":
        """The same system with ``count`` listeners, on free ports."""
        return replace(self, ports=replace(self.ports, listeners=free_ports(count).listeners))

    def with_tokens(self) -> "Layout":
        """The same system for those with a token alone. Makes the tokens."""
        return replace(self, tokens=local_tokens(self.data, self.group))

    def log(self, name: str) -> Path:
        """The log file of one process."""
        return self.data / "logs" / f"{name}.log"

    def producer(self) -> Child:
        """The producer, not yet started."""
        return self._producer(
            "producer", Pair(self.ports.producer, self.ports.stream), self.journal_url or str(self.journal)
        )

    def producers(self, database_url: str, ports: Sequence[Pair]) -> list[Child]:
        """Producers that share a journal in PostgreSQL, not yet started. A balancer has the ports of this layout."""
        return [self._producer(f"producer-{number}", at, database_url) for number, at in enumerate(ports, 1)]

    def _producer(self, name: str, at: Pair, journal: str) -> Child:
        return self._command(
            "producer",
            name,
            PORT=str(at.publish),
            WS_PORT=str(at.stream),
            JOURNAL=journal,
            INSTANCE_ID=name,
            LISTENERS=",".join(self.listener_urls),
            CONSOLE_URL=self.console_url or "",
            **self._access("producer"),
        )

    @property
    def group(self) -> str:
        """The listeners' group."""
        return _group_of(self).get("GROUP", DEFAULT_GROUP)

    def console(self, database_url: str, redis_url: str, **more: str) -> Child:
        """The console, not yet started. ``more``: further settings."""
        return self._command(
            "console",
            "console",
            INSTANCE_ID="console",
            PORT=str(self.ports.console),
            REDIS_URL=redis_url,
            DATABASE_URL=database_url,
            PRODUCER_URL=self.producer_url,
            LISTENERS=",".join(self.listener_urls),
            LETTERS=",".join(map(str, self.letter_files)),
            **self._access("console"),
            **more,
            **self.console_extra,
        )

    def listeners(self, database_url: str, redis_url: str, **more: str) -> list[Child]:
        """The listeners, not yet started. ``more``: further settings."""
        return [
            self._command(
                "listener",
                f"listener-{name}",
                INSTANCE_ID=name,
                PORT=str(port),
                WS_URL=self.route(name, self.stream_url),
                REDIS_URL=self.route(name, redis_url),
                DATABASE_URL=self.route(name, database_url),
                DEAD_LETTER_FILE=str(file),
                CONSOLE_URL=self.console_url or "",
                **self._access("listener"),
                **more,
            )
            for name, port, file in zip(self.listener_names, self.ports.listeners, self.letter_files, strict=True)
        ]

    def _access(self, process: Literal["producer", "listener", "console"]) -> dict[str, str]:
        """The settings by which a process knows its clients, and by which others know it."""
        if self.tokens is None:
            return {}
        known = {"TOKENS_FILE": str(self.tokens.file), "UNLOST_TOKEN": ""}
        match process:
            case "producer":
                return {**known, "UNLOST_TOKEN": self.tokens.producer}
            case "listener":
                return {**known, "WS_AUTHORIZATION": f"Bearer {self.tokens.listener}"}
            case "console":
                return {**known, "UNLOST_TOKEN": self.tokens.console}
            case _:
                assert_never(process)

    def _command(self, command: str, name: str, **settings: str) -> Child:
        for path in (settings.get("JOURNAL"), settings.get("DEAD_LETTER_FILE")):
            if path is not None and "://" not in path:
                private_directory(Path(path).parent)
        outer = {**os.environ, "PYTHONUNBUFFERED": "1", **self.extra}
        environment = with_secrets_in_files(outer, settings, self.data)
        return Child(name, [str(self.programs / "unlost"), command], log=self.log(name), environment=environment)


class _GroupSettings(Settings):
    """The listeners' handler and group, and where their effects may go."""

    handler: str = ""
    handler_version: str = ""
    group: str = ""
    effect_hosts: str = ""
    effect_networks: str = ""
    effect_producer: str = ""
    effect_tokens: str = ""
    effect_secrets: str = ""


def _group_of(layout: Layout) -> dict[str, str]:
    """These settings, for the environment file: a replay must run with the same ones."""
    given = {name.lower(): value for name, value in layout.extra.items()}
    settings = _GroupSettings.load({name: given[name] for name in _GroupSettings.model_fields if name in given})
    return {name.upper(): value for name, value in settings.model_dump().items() if value}


def write_environment(layout: Layout, database_url: str, redis_url: str, *, journal: str = "", **more: str) -> None:
    """Write the file by which ``unlost`` and ``dlq`` find this system. It is private, because it holds passwords."""
    values = {
        **more,
        **_group_of(layout),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WS_URL": layout.stream_url,
        "PRODUCER_URL": layout.producer_url,
        "LISTENERS": ",".join(layout.listener_urls),
        "LETTERS": ",".join(map(str, layout.letter_files)),
        "JOURNAL": journal or layout.journal_url or str(layout.journal),
        **({"CONSOLE_URL": layout.console_url} if layout.console_url else {}),
        **({"UNLOST_TOKEN": layout.tokens.user} if layout.tokens else {}),
    }
    descriptor = private_descriptor(layout.environment_file, os.O_WRONLY | os.O_TRUNC)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def executable(command: str) -> Path:
    """The path of a command that is installed next to the running Python."""
    return Path(sys.executable).parent / command
