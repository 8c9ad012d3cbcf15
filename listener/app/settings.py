"""The settings of a listener, with defaults, limits and the relations between them."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from unlost.listener.app.effect_settings import EffectSettings
from unlost.listener.app.notify_settings import NotifySettings
from unlost.listener.claims.redis.address import SCHEMES
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.order_key import PATH
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.pipeline.policy import Policy
from unlost.listener.source.reader import ReadingOptions
from unlost.listener.source.stream.handshake import source_name
from unlost.listener.source.stream.stream import StreamOptions
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.listener.store.postgres.statements import DEFAULT_GROUP, GROUP_NAME, GROUP_RULE
from unlost.ops.kit.access.settings import AccessSettings, RedactSettings
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings, RedisTlsSettings, SourceTlsSettings
from unlost.ops.kit.command import Secret, SecretUrl, SecretUrls, Settings, WebAddress


def _group_name(value: str) -> str:
    if not re.fullmatch(GROUP_NAME, value):
        raise ValueError(GROUP_RULE)
    return value


GroupName = Annotated[str, AfterValidator(_group_name)]
"""The name of a group of listeners. Its schema in PostgreSQL is named after it."""


class ReadSettings(Settings):
    """A server that is only read."""

    database_read_url: SecretUrl | None = Field(
        None, description="A standby of DATABASE_URL, for pages of events; none: the primary is read"
    )


class ConnectionSettings(DatabaseTlsSettings, RedisTlsSettings, RedactSettings, EffectSettings):
    """The addresses of an instance's servers, its name, and what a replay shares with a listener."""

    instance_id: str = Field(
        default_factory=lambda: os.environ.get("HOSTNAME") or socket.gethostname(),
        min_length=1, max_length=128, description="Name of this instance, different from every peer's",
    )  # fmt: skip
    group: GroupName = Field(
        DEFAULT_GROUP, description="Group of listeners that share their work; it names the schema in PostgreSQL"
    )
    redis_url: SecretUrl = Field(
        SecretUrl("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey, for claims: one server, nodes of a Cluster, or Sentinels (redis+sentinel://)",
    )
    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL, for rows"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log")
    redis_timeout: float = Field(0.3, gt=0, le=5, description="Seconds that Redis may take to connect or to answer")
    database_timeout: float = Field(5.0, gt=0, le=120, description="Seconds that one statement may take")
    database_connections: int = Field(8, ge=4, le=200, description="Connections to PostgreSQL besides the handler's")
    database_attempts: int = Field(
        10, ge=1, description="Attempts to reach PostgreSQL, and then to join the group, at the start"
    )
    migrate: Literal["yes", "no"] = Field(
        "yes", description="Whether the tables are brought up to date at the start; no: `unlost migrate` does it"
    )
    startup_attempts: int = Field(3, ge=1, description="Attempts to reach Redis at the start, before doing without")
    startup_delay: float = Field(3.0, ge=0, description="Seconds between two attempts at the start")
    lease: float = Field(30.0, ge=1, le=3600, description="Seconds that a claim lasts unless renewed")
    dedup_window: float = Field(7 * 86400.0, ge=60, description="Seconds that Redis remembers settled events")
    handler: str = Field("", description="package.module:function that handles each event; none: events are recorded")
    handler_version: str = Field(
        "", pattern=r"^[A-Za-z0-9_.+-]{0,64}$", description="Version of HANDLER; another version is another handler"
    )
    handler_role: str = Field(
        "", max_length=63, description="Role of PostgreSQL that a handler has in its transaction; none: the listener's"
    )
    handle_attempts: int = Field(3, ge=1, le=100, description="Attempts of the handler for one event")
    handle_delay: float = Field(2.0, ge=0, description="Seconds between two attempts of the handler")
    handle_timeout: float = Field(30.0, gt=0, description="Seconds that one attempt of the handler may take")
    handle_concurrency: int = Field(16, ge=1, le=1000, description="Handlers that run at once")
    stuck_after: float = Field(
        60.0,
        gt=0,
        description="Seconds without progress before it is not ready; at least twice HANDLE_TIMEOUT",
    )
    insert_attempts: int = Field(
        3, ge=1, le=100, description="Attempts to insert one row; none counts while PostgreSQL takes no rows"
    )
    insert_delay: float = Field(2.0, ge=0, description="Seconds between two attempts to insert")
    max_takeovers: int = Field(
        3, ge=1, le=100, description="Owners lost while they ran an event alone, before it is buried"
    )
    max_event_bytes: int = Field(1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest event, in bytes")
    fast: Literal["on", "off"] = Field(
        "on", description="Whether faster code of our own is used in place of libraries; both behave alike"
    )
    batch_size: int = Field(1024, ge=1, le=10_000, description="Events in one batch of a stage, at most")

    @model_validator(mode="after")
    def _schemes(self) -> Self:
        wrong = [
            f"{flag} must begin with {' or '.join(schemes)}"
            for flag, url, schemes in (
                ("--redis-url (REDIS_URL)", self.redis_url, SCHEMES),
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
    def declared(self) -> str | None:
        """Settings that all listeners of a group must share, as the membership shows them: handler and order."""
        return self.handler_name

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
            breakers=False,
            # A transaction ends within the longest idle time (see wiring.py) and one more statement; 1 s is margin.
            letters_sure_after=max(self.lease, self.handle_timeout) + self.database_timeout + 1.0,
            heal=HealPolicy("off"),  # a replay runs what it was asked for
        )


ORDERED_BY = " ordered by "


def handler_of(declared: str | None) -> str | None:
    """Return the handler's name in what a listener declared."""
    return (declared or "").partition(ORDERED_BY)[0].removesuffix("@") or None


CURSOR_BYTES = 1024
"""How many bytes a source may add to an event for its cursor."""


class ListenerSettings(ConnectionSettings, ReadSettings, AccessSettings, SourceTlsSettings, NotifySettings):
    """All settings of a listener."""

    reload: bool = Field(
        False, description="For development: start again whenever a Python file below the working directory changes"
    )
    host: str = Field("127.0.0.1", description="Address of the HTTP endpoint")
    port: int = Field(3000, ge=0, le=65535, description="Port of the HTTP endpoint; 0 takes a free one")
    source: SecretUrls = Field(
        SecretUrls(""),
        description="Sources, with spaces between them: addresses, names of feeds, profiles, classes; none: WS_URL",
    )
    ws_url: SecretUrl = Field(SecretUrl("ws://127.0.0.1:8080/"), description="The source, if SOURCE is empty")
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
    heal: Literal["transient", "all", "off"] = Field(
        "transient", description="Dead letters that listeners retry: those of class transient, all, or none (off)"
    )
    heal_first: float = Field(60.0, gt=0, description="Seconds until the first retry of a letter")
    heal_max: float = Field(14_400.0, gt=0, description="Longest pause between two retries, in seconds; pauses double")
    heal_attempts: int = Field(12, ge=1, le=1000, description="Retries of a letter until it needs a human")
    heal_rate: float = Field(50.0, gt=0, description="Letters that one listener retries per second, at most")
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
    order_by: str = Field(
        "", pattern=rf"^({PATH})?$",
        description="Path of the key in whose order events are processed, as payload.account_id; none: in any order",
    )  # fmt: skip
    shutdown_timeout: float = Field(20.0, ge=0, description="Seconds that running work may take to finish on SIGTERM")

    @property
    def declared(self) -> str | None:
        """The handler's name, and the key in whose order events are processed. The handler's name ends at an @."""
        if not self.order_by:
            return self.handler_name
        name = self.handler_name or ""
        return f"{name if '@' in name else f'{name}@'}{ORDERED_BY}{self.order_by}"

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
    def _healing_slows_down(self) -> Self:
        if self.heal_max < self.heal_first:
            raise ValueError("--heal-max (HEAL_MAX) must not be below --heal-first (HEAL_FIRST)")
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
            | {
                "max_events": self.max_events,
                "max_bytes": self.max_bytes,
                "peer_wait": self.peer_wait,
                "breakers": True,
                "heal": self.healing(),
                "order_by": self.order_by,
            }
        )

    def healing(self) -> HealPolicy:
        """Which letters listeners retry by themselves, and when."""
        return HealPolicy(self.heal, self.heal_first, self.heal_max, self.heal_attempts, self.heal_rate)

    def reading(self) -> ReadingOptions:
        """The settings of the reader."""
        return ReadingOptions(self.group, self.start_from, FullJitter(self.reconnect_first, self.reconnect_max))

    def stream(self, url: str = "") -> StreamOptions:
        """The settings of a source with our own envelope; by default, at WS_URL."""
        url = url or self.ws_url.reveal()
        authorization = self.ws_authorization.reveal()
        websocket = WebSocketOptions(
            headers={"Authorization": authorization} if authorization else {},
            max_frame=self.max_event_bytes + CURSOR_BYTES,
            keepalive=self.keepalive,
            tls=self.source_tls().context() if self.source_tls() and url.startswith("wss:") else None,
        )
        name = self.source_name or source_name(url)
        return StreamOptions(url, name, self.source_resumes, self.max_event_bytes, websocket)
