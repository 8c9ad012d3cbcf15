"""The settings of the console."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from unlost.listener.app.connection_settings import ConnectionSettings, ReadSettings
from unlost.ops.console.links import links_of, mistake_in
from unlost.ops.console.signin.settings import SignInSettings
from unlost.ops.kit.access.settings import ClientSettings
from unlost.ops.kit.command import SecretUrl, WebAddress
from unlost.ops.watch.targets import WatchTargets

if TYPE_CHECKING:
    from unlost.listener.store.postgres.database import Database

TIMEOUT = 3.0
SHORT_TIMEOUT = 1.5
"""For the overview: a slow PostgreSQL is shown as away."""


class ConsoleSettings(ConnectionSettings, ReadSettings, SignInSettings, ClientSettings):
    """Where the parts of the system are, who may use the console, and, for replays, a listener's settings."""

    removed: ClassVar[Mapping[str, str]] = {
        "CONSOLE_TOKEN": "make tokens with `unlost token create`, and set TOKENS_FILE",
        "CONSOLE_NAMES": "set ALLOWED_HOSTS",
    }

    host: str = Field("127.0.0.1", description="Address of the console")
    port: int = Field(3006, ge=0, le=65535, description="Port of the console; 0 takes a free one")
    listeners: tuple[WebAddress, ...] = Field(
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001"), description="The listeners"
    )
    producer_url: WebAddress | None = Field(None, description="The producer, if the source is Unlost's own")
    letters: tuple[Path, ...] = Field(
        (), description="Dead-letter files, directories or patterns that the console can read and write"
    )
    replay_database_url: SecretUrl | None = Field(
        None, description="PostgreSQL for replays, which need the rights of a listener; none: DATABASE_URL"
    )
    logs_url: str = Field("", description="Link to logs, with {event_id}, {instance} or {group} to be filled in")
    traces_url: str = Field("", description="Link to traces, with the same fields")
    grafana_url: str = Field("", description="Link to dashboards, with the same fields")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log")

    @model_validator(mode="after")
    def _links_lead_to_pages(self) -> Self:
        for name in ("logs_url", "traces_url", "grafana_url"):
            if (template := getattr(self, name)) and (why := mistake_in(template)):
                raise ValueError(f"--{name.replace('_', '-')} ({name.upper()}): {why}")
        return self

    def links(self, **values: str) -> dict[str, str]:
        """Links to other pages, by name, as far as these values fill them in."""
        templates = {"Logs": self.logs_url, "Traces": self.traces_url, "Grafana": self.grafana_url}
        return links_of(templates, {"group": self.group, **values})

    def targets(self) -> WatchTargets:
        """The processes to query over HTTP, and the files to read."""
        return WatchTargets(self.listeners, self.producer_url, self.letters, self.group)

    def database(self) -> "Database":
        """The connection pool to PostgreSQL, not opened yet."""
        return self._database(4, TIMEOUT)

    def quick_database(self) -> "Database":
        """The pool for the overview."""
        return self._database(2, SHORT_TIMEOUT)

    def _database(self, connections: int, timeout: float) -> "Database":
        from unlost.listener.store.postgres.database import Database

        url, name = self.database_url.reveal(), "unlost console"
        return Database(
            url, group=self.group, name=name, connections=connections, timeout=timeout, connect_timeout=timeout
        )

    def standby(self) -> "Database | None":
        """The standby that pages of events are read from, if there is one."""
        from unlost.listener.app.wiring import standby_of

        return standby_of(self, self.group, TIMEOUT)

    def replay_environment(self) -> dict[str, str]:
        """The environment for ``dlq replay``, with secrets: the settings that it shares with a listener."""
        values = {name: getattr(self, name) for name in ConnectionSettings.model_fields if name != "log_level"}
        values["redact"] = ",".join(self.redact)
        values["database_url"] = self.replay_database_url or self.database_url
        return {
            name.upper(): str(value.reveal() if hasattr(value, "reveal") else value)
            for name, value in values.items()
            if value not in ("", None)
        }
