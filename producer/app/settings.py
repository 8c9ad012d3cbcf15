"""The settings of a producer."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from unlost.ops.kit.access.limits import Limits
from unlost.ops.kit.access.sender_file import Senders, sender_file
from unlost.ops.kit.access.settings import AccessSettings, ClientSettings, CodecSettings
from unlost.ops.kit.access.watched_file import Unusable, WatchedFile
from unlost.ops.kit.command import PathOrUrl, UsageProblem, WebAddress
from unlost.producer.journal.address import JournalAddress

DAY = 86_400.0


class ProducerSettings(AccessSettings, ClientSettings, CodecSettings):
    """All settings of a producer."""

    instance_id: str = Field("producer", min_length=1, max_length=128, description="Name of this instance in its logs")
    host: str = Field("127.0.0.1", description="Address to listen on, for both ports")
    port: int = Field(3005, ge=0, le=65535, description="HTTP port; 0 takes a free one")
    ws_port: int = Field(8080, ge=0, le=65535, description="WebSocket port; 0 takes a free one")
    journal: JournalAddress = Field(
        PathOrUrl("journal.sqlite3"),
        description="The journal: a file, or postgresql://... or nats://.../STREAM, which several producers can share",
    )
    listeners: tuple[WebAddress, ...] = Field((), description="URLs of listeners, with which the page follows events")
    max_event_bytes: int = Field(1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest event, in bytes")
    max_batch_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Largest body of a batch, in bytes")
    schemas: Path | None = Field(
        None, description="File with JSON Schemas of payloads, by type; none: any JSON (extra: unlost[schema])"
    )
    retention: float = Field(7 * DAY, ge=60, description="Seconds that events and their ids are kept")
    max_journal_bytes: int = Field(
        10 * 1024**3,
        ge=1024 * 1024,
        description="Size beyond which events that all groups have read are dropped; without such events: 503",
    )
    max_clients: int = Field(1_000, ge=1, description="WebSocket clients at once, at most")
    events_per_second: float = Field(
        0, ge=0, description="Events that one identity may publish per second, unless its token has a limit; 0: any"
    )
    bytes_per_second: float = Field(
        0, ge=0, description="Bytes that one identity may publish per second, unless its token has a limit; 0: any"
    )
    streams_per_identity: int = Field(
        200, ge=0, description="Streams that one identity may open, unless its token has a limit; 0: any"
    )
    senders_file: Path | None = Field(
        None,
        description="File of senders that sign what they publish: lines name=whsec_…; none: nobody may sign",
    )
    ping_timeout: float = Field(120.0, ge=1, description="Seconds that a client may leave a ping unanswered")
    console_url: WebAddress | None = Field(
        None, description="URL of the console, to which browsers are redirected; none: its own page"
    )
    allowed_origins: tuple[str, ...] = Field((), description="Origins of other sites' pages that may use this producer")
    fast: Literal["on", "off"] = Field(
        "on", description="Whether faster code of our own is used in place of libraries; both behave alike"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log")

    def senders(self) -> WatchedFile[Senders] | None:
        """Read who signs. Raises ``UsageProblem``."""
        if self.senders_file is None:
            return None
        senders = sender_file(self.senders_file)
        try:
            senders.load()
        except Unusable as error:
            raise UsageProblem(str(error)) from None
        return senders

    def limits(self) -> Limits:
        """The limits of an identity whose token has none."""
        return Limits(self.events_per_second, self.bytes_per_second, self.streams_per_identity)
