"""Settings of commands that watch the system, with the same names as everywhere."""

from pathlib import Path

from pydantic import Field

from unlost.listener.app.group_name import GroupName
from unlost.listener.store.postgres.database import Database
from unlost.ops.kit.access.settings import ClientSettings
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, WebAddress
from unlost.ops.watch.targets import WatchTargets

PATIENCE = 2.0


class WatchSettings(ClientSettings, DatabaseTlsSettings):
    """Where the parts of the system are."""

    listeners: tuple[WebAddress, ...] = Field(
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001"), description="The listeners"
    )
    producer_url: WebAddress | None = Field(None, description="The producer, if the source is Unlost's own")
    database_url: SecretUrl | None = Field(None, description="PostgreSQL, for rows and the group's cursor")
    letters: tuple[Path, ...] = Field(
        (), description="Dead-letter files, directories or patterns that can be read from here"
    )
    group: GroupName = Field("unlost", description="The group of listeners whose cursor counts")

    def targets(self) -> WatchTargets:
        """The processes to query over HTTP, and the files to read."""
        return WatchTargets(self.listeners, self.producer_url, self.letters, self.group)

    def database(self, name: str) -> Database | None:
        """The connection pool to PostgreSQL, not opened yet; None without a URL."""
        if self.database_url is None:
            return None
        url = self.database_url.reveal()
        return Database(url, group=self.group, name=name, connections=4, timeout=PATIENCE, connect_timeout=PATIENCE)
