"""The settings of a producer."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from unlost.ops.kit.command import Settings, WebAddress

DAY = 86_400.0


class ProducerSettings(Settings):
    """All settings of a producer."""

    instance_id: str = Field("producer", min_length=1, max_length=128, description="Name of this instance in its logs")
    host: str = Field("127.0.0.1", description="Address to listen on, for both ports")
    port: int = Field(3005, ge=0, le=65535, description="HTTP port; 0 takes a free one")
    ws_port: int = Field(8080, ge=0, le=65535, description="WebSocket port; 0 takes a free one")
    journal: Path = Field(Path("journal.sqlite3"), description="File of the journal")
    listeners: tuple[WebAddress, ...] = Field((), description="URLs of listeners, with which the page follows events")
    max_event_bytes: int = Field(1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest event, in bytes")
    max_batch_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Largest body of a batch, in bytes")
    retention: float = Field(7 * DAY, ge=60, description="Seconds that events and their ids are kept")
    max_journal_bytes: int = Field(
        10 * 1024**3,
        ge=1024 * 1024,
        description="Size beyond which events that all groups have read are dropped; if there are none: 503",
    )
    max_clients: int = Field(1_000, ge=1, description="WebSocket clients at once, at most")
    ping_timeout: float = Field(120.0, ge=1, description="Seconds that a client may leave a ping unanswered")
    console_url: WebAddress | None = Field(
        None, description="URL of the console, to which browsers are redirected; none: its own page"
    )
    allowed_origins: tuple[str, ...] = Field((), description="Origins of other sites' pages that may use this producer")
    fast: Literal["on", "off"] = Field(
        "on", description="Whether faster code of our own replaces libraries' ordinary ways where both do the same"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line to log")
