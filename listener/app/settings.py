"""The settings of a listener, with defaults, limits and the relations between them."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from unlost.listener.core.backoff import Backoff
from unlost.listener.pipeline.policy import Policy
from unlost.listener.source.connection import SourceOptions
from unlost.listener.source.handshake import source_name
from unlost.listener.store.postgres.statements import DEFAULT_GROUP, GROUP_NAME, GROUP_RULE
from unlost.ops.kit.command import Secret, SecretUrl, Settings, WebAddress


def _group_name(value: str) -> str:
    if not re.fullmatch(GROUP_NAME, value):
        raise ValueError(GROUP_RULE)
    return value


GroupName = Annotated[str, AfterValidator(_group_name)]
"""The name of a group of listeners. Its schema in PostgreSQL is named after it."""


class ConnectionSettings(Settings):
    """The addresses of an instance's servers, its name, and what a replay shares with a listener."""

    instance_id: str = Field(
        default_factory=lambda: os.environ.get("HOSTNAME") or socket.gethostname(),
        min_length=1, max_length=128, description="Name of this instance, unlike any peer's",
    )  # fmt: skip
    group: GroupName = Field(
        DEFAULT_GROUP, description="Group of listeners that share their work; it names the schema in PostgreSQL"
    )
    redis_url: SecretUrl = Field(SecretUrl("redis://127.0.0.1:6379/0"), description="Redis or Valkey, for claims")
    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL, for rows"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line to log")
    redis_timeout: float = Field(0.3, gt=0, le=5, description="Seconds that Redis may take to connect or to answer")
    redis_shards: int = Field(1, ge=1, le=256, description="Hash slots over which claims are spread (Redis Cluster)")
    database_timeout: float = Field(5.0, gt=0, le=120, description="Seconds that one statement may take")
    database_connections: int = Field(8, ge=4, le=200, description="Connections to PostgreSQL besides the handler's")
    database_attempts: int = Field(
        10, ge=1, description="Attempts to reach PostgreSQL, and then to join the group, at the start"
    )
    migrate: Literal["yes", "no"] = Field(
        "yes", description="Whether the tables are brought up to date at the start; no: `unlost migrate` does it"
    )
    startup_attempts: int = Field(3, ge=1, description="Attempts to reach Redis at the start; then it works without")
    startup_delay: float = Field(3.0, ge=0, description="Seconds between two attempts at the start")
    lease: float = Field(30.0, ge=1, le=3600, description="Seconds that a claim lasts unless renewed")
    dedup_window: float = Field(7 * 86400.0, ge=60, description="Seconds that Redis remembers settled events")
    handler: str = Field("", description="package.module:function that handles each event; none: events are recorded")
    handler_version: str = Field(
        "", pattern=r"^[A-Za-z0-9_.+-]{0,64}$", description="Version of HANDLER; another version is another handler"
    )
    handle_attempts: int = Field(3, ge=1, le=100, description="Attempts of the handler for one event")
    handle_delay: float = Field(2.0, ge=0, description="Seconds between two attempts of the handler")
    handle_timeout: float = Field(30.0, gt=0, description="Seconds that one attempt of the handler may take")
    handle_concurrency: int = Field(16, ge=1, le=1000, description="Handlers that run at once")
    stuck_after: float = Field(
        60.0,
        gt=0,
        description="Seconds without progress on held events before it is unready; at least twice HANDLE_TIMEOUT",
    )
    insert_attempts: int = Field(
        3, ge=1, le=100, description="Attempts to insert one row; none counts while PostgreSQL takes no rows"
    )
    insert_delay: float = Field(2.0, ge=0, description="Seconds between two attempts to insert")
    max_takeovers: int = Field(
        3, ge=1, le=100, description="Owners lost while they run an event alone, before it is buried"
    )
    max_event_bytes: int = Field(1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest event, in bytes")
    fast: Literal["on", "off"] = Field(
        "on", description="Whether faster code of our own replaces libraries' ordinary ways where both do the same"
    )
    batch_size: int = Field(1024, ge=1, le=10_000, description="Events in one batch of a stage, at most")

    @model_validator(mode="after")
    def _schemes(self) -> Self:
        wrong = [
            f"{flag} must begin with {' or '.join(schemes)}"
            for flag, url, schemes in (
                ("--redis-url (REDIS_URL)", self.redis_url, ("redis://", "rediss://", "unix://")),
                ("--database-url (DATABASE_URL)", self.database_url, ("postgresql://", "postgres://")),
            )
            if not url.reveal().startswith(schemes)
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _window_outlives_lease(self) -> Self:
        if self.dedup_window < 2 * self.lease:
            raise ValueError("--dedup-window (DEDUP_WINDOW) must be at least twice --lease (LEASE)")
        return self

    @model_validator(mode="after")
    def _claims_can_be_renewed(self) -> Self:
        """Require a lease of three Redis time limits.

        A renewal begins a third of a lease after the last answer, and each answer may take the whole limit. With a
        shorter lease, a Redis that is slow within its limit loses every claim, and peers condemn innocent events for
        it.
        """
        if self.lease < 3 * self.redis_timeout:
            raise ValueError(
                "--lease (LEASE) must be at least three times --redis-timeout (REDIS_TIMEOUT), or claims end before a "
                "slow Redis can renew them"
            )
        return self

    @model_validator(mode="after")
    def _handler_form(self) -> Self:
        if self.handler and not re.fullmatch(r"[\w.]+:[\w.]+", self.handler):
            raise ValueError("--handler (HANDLER) is written package.module:function")
        return self

    @model_validator(mode="after")
    def _version_of_a_handler(self) -> Self:
        if self.handler_version and not self.handler:
            raise ValueError("--handler-version (HANDLER_VERSION) is given without --handler (HANDLER)")
        return self

    @property
    def handler_name(self) -> str | None:
        """The handler's name in rows, letters and the membership."""
        return f"{self.handler}@{self.handler_version}" if self.handler_version else self.handler or None

    @property
    def changes_handler(self) -> bool:
        """Whether this process may work beside peers that have another handler."""
        return False

    def policy(self) -> Policy:
        """The limits that the stages obey."""
        return Policy(
            handle_attempts=self.handle_attempts,
            handle_delay=self.handle_delay,
            handle_timeout=self.handle_timeout,
            handle_concurrency=self.handle_concurrency,
            insert_attempts=self.insert_attempts,
            insert_delay=self.insert_delay,
            max_takeovers=self.max_takeovers,
            max_event_bytes=self.max_event_bytes + CURSOR_BYTES,
            batch=self.batch_size,
            # A transaction ends within the longest idle time (see wiring.py) and one more statement; 1 s is margin.
            letters_sure_after=max(self.lease, self.handle_timeout) + self.database_timeout + 1.0,
        )


CURSOR_BYTES = 1024
"""How many bytes a source may add to an event for its cursor."""


class ListenerSettings(ConnectionSettings):
    """All settings of a listener."""

    host: str = Field("127.0.0.1", description="Address of the HTTP endpoint")
    port: int = Field(3000, ge=0, le=65535, description="Port of the HTTP endpoint; 0 takes a free one")
    ws_url: SecretUrl = Field(SecretUrl("ws://127.0.0.1:8080/"), description="The source")
    ws_authorization: Secret = Field(Secret(""), description="Value of the Authorization header for the source")
    source_name: str = Field("", max_length=512, description="Name of the source's cursor; by default its address")
    source_resumes: Literal["auto", "yes", "no"] = Field(
        "auto", description="Whether the source resumes by ?after=<cursor>; auto: only Unlost's own producer does"
    )
    start_from: Literal["oldest", "now"] = Field("oldest", description="Where a group without a cursor starts")
    reconnect_first: float = Field(1.0, gt=0, description="Seconds before the first reconnect, at most")
    reconnect_max: float = Field(30.0, gt=0, description="Seconds before any reconnect, at most")
    keepalive: float = Field(20.0, ge=1, description="Seconds of silence before the source is pinged")
    dead_letter_file: Path = Field(Path("failed_events.jsonl"), description="File for events that cannot succeed")
    peer_wait: float = Field(
        0.2, ge=0, le=5, description="Seconds an event waits for the peer that should claim it; 0: all claim at once"
    )
    max_events: int = Field(50_000, ge=1, description="Events held in memory, at most")
    max_bytes: int = Field(64 * 1024 * 1024, ge=65536, description="Bytes of events held in memory, at most")
    console_url: WebAddress | None = Field(
        None, description="URL of the console, to which browsers are redirected; none: its own page"
    )
    handler_change: Literal["no", "yes"] = Field(
        "no", description="Whether it may work beside peers with another HANDLER, for a deploy that changes HANDLER"
    )
    shutdown_timeout: float = Field(20.0, ge=0, description="Seconds that running work may take to finish on SIGTERM")

    @property
    def changes_handler(self) -> bool:
        """Whether this listener may work beside peers that have another handler."""
        return self.handler_change == "yes"

    @model_validator(mode="after")
    def _backoff_grows(self) -> Self:
        if self.reconnect_max < self.reconnect_first:
            raise ValueError("--reconnect-max (RECONNECT_MAX) must not be below --reconnect-first (RECONNECT_FIRST)")
        return self

    @model_validator(mode="after")
    def _one_event_fits(self) -> Self:
        if self.max_bytes < self.max_event_bytes:
            raise ValueError("--max-bytes (MAX_BYTES) must not be below --max-event-bytes (MAX_EVENT_BYTES)")
        return self

    @model_validator(mode="after")
    def _source_scheme(self) -> Self:
        if not self.ws_url.reveal().startswith(("ws://", "wss://")):
            raise ValueError("--ws-url (WS_URL) must begin with ws:// or wss://")
        return self

    def policy(self) -> Policy:
        """The limits that the stages obey."""
        policy = super().policy()
        return type(policy)(
            **{name: getattr(policy, name) for name in policy.__slots__}
            | {"max_events": self.max_events, "max_bytes": self.max_bytes, "peer_wait": self.peer_wait}
        )

    def source(self) -> SourceOptions:
        """The settings of the source, for the reader."""
        url = self.ws_url.reveal()
        authorization = self.ws_authorization.reveal()
        return SourceOptions(
            url=url,
            name=self.source_name or source_name(url),
            group=self.group,
            start_from=self.start_from,
            resumes=self.source_resumes,
            headers={"Authorization": authorization} if authorization else {},
            max_event=self.max_event_bytes,
            max_frame=self.max_event_bytes + CURSOR_BYTES,
            keepalive=self.keepalive,
            backoff=Backoff(self.reconnect_first, self.reconnect_max),
        )
