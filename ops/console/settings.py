"""The settings of the console."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from unlost.listener.app.settings import ConnectionSettings
from unlost.listener.store.postgres.database import Database
from unlost.ops.kit.command import Secret, WebAddress
from unlost.ops.watch.query import PATIENCE, Targets

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TIMEOUT = 3.0


class ConsoleSettings(ConnectionSettings):
    """Where the parts of the system are, who may use the console, and, for replays, a listener's settings."""

    host: str = Field("127.0.0.1", description="Address of the console")
    port: int = Field(3006, ge=0, le=65535, description="Port of the console; 0 takes a free one")
    listeners: tuple[WebAddress, ...] = Field(
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001"), description="The listeners"
    )
    producer_url: WebAddress | None = Field(None, description="The producer, if the source is Unlost's own")
    letters: tuple[Path, ...] = Field(
        (), description="Dead-letter files, directories or patterns that the console can read and write"
    )
    console_token: Secret = Field(Secret(""), description="Token that changes require; none: anybody may make changes")
    console_names: tuple[str, ...] = Field((), description="Host names of the console besides localhost and HOST")
    redact: tuple[str, ...] = Field((), description="Names of payload fields that are never shown")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line to log")

    def targets(self) -> Targets:
        """The processes to query over HTTP, and the files to read."""
        return Targets(self.listeners, self.producer_url, self.letters, self.group)

    def names(self) -> frozenset[str]:
        """The host names to which the console answers. A foreign name that points here must not reach it."""
        return frozenset(name.lower() for name in (*LOOPBACK, self.host, *self.console_names))

    def database(self) -> Database:
        """The connection pool to PostgreSQL, not opened yet."""
        return Database(
            self.database_url.reveal(), group=self.group, name="unlost console", connections=4,
            timeout=TIMEOUT, connect_timeout=TIMEOUT,
        )  # fmt: skip

    def quick_database(self) -> Database:
        """The pool for looks at the system. Its limit is short: if PostgreSQL is slow, it is shown as away."""
        return Database(
            self.database_url.reveal(), group=self.group, name="unlost console", connections=2,
            timeout=PATIENCE, connect_timeout=PATIENCE,
        )  # fmt: skip

    def replay_environment(self) -> dict[str, str]:
        """The environment for ``dlq replay``, with secrets: the settings that it shares with a listener."""
        values = {name: getattr(self, name) for name in ConnectionSettings.model_fields if name != "log_level"}
        return {
            name.upper(): str(value.reveal() if hasattr(value, "reveal") else value)
            for name, value in values.items()
            if value not in ("", None)
        }
