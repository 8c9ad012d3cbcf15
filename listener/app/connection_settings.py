"""The settings that a listener and a replay share: addresses of servers, the handler, and its limits."""

import os
import re
import socket
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from unlost.listener.app.effect_settings import EffectSettings
from unlost.listener.app.group_name import GroupName
from unlost.listener.claims.redis.address import SCHEMES
from unlost.listener.core.order_key import AfterLetter
from unlost.listener.core.shard import Shard
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.pipeline.policy import Policy
from unlost.listener.store.postgres.statements import DEFAULT_GROUP
from unlost.ops.kit.access.settings import PayloadSettings
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings, RedisTlsSettings
from unlost.ops.kit.command import Secret, SecretUrl, Settings

CURSOR_BYTES = 1024
"""How many bytes a source may add to an event for its cursor."""
SHORTEST_SECRET = 32
"""Characters of a secret that a reader of Redis could try to guess."""


class ReadSettings(Settings):
    """A server that is only read."""

    database_read_url: SecretUrl | None = Field(
        None, description="A standby of DATABASE_URL, for pages of events; none: the primary is read"
    )


class ConnectionSettings(DatabaseTlsSettings, RedisTlsSettings, PayloadSettings, EffectSettings):
    """The addresses of an instance's servers, its name, and what a replay shares with a listener."""

    instance_id: str = Field(
        default_factory=lambda: os.environ.get("HOSTNAME") or socket.gethostname(),
        min_length=1, max_length=128, description="Name of this instance, different from every peer's",
    )  # fmt: skip
    group: GroupName = Field(
        DEFAULT_GROUP,
        description="Group of listeners that share their work; it names the schema in PostgreSQL. A shard is named as "
        "orders-shard1of2",
    )
    redis_url: SecretUrl = Field(
        SecretUrl("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey, for claims: one server, nodes of a Cluster, or Sentinels (redis+sentinel://)",
    )
    redis_secret: Secret = Field(
        Secret(""),
        description="Shared by the group's listeners: it proves that they wrote what Redis holds as settled; none: "
        "whatever Redis holds is believed",
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
    def _secret_cannot_be_guessed(self) -> Self:
        if 0 < len(self.redis_secret.reveal()) < SHORTEST_SECRET:
            raise ValueError(f"--redis-secret (REDIS_SECRET) must have at least {SHORTEST_SECRET} characters")
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

    def declared_with(self, keys: Mapping[str, str], policies: Mapping[str, AfterLetter]) -> str | None:  # noqa: ARG002
        """Return what is declared if the handler has these keys. A replay declares the handler alone."""
        return self.declared

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
            shard=Shard.of_group(self.group),
            breakers=False,
            # A transaction ends within the longest idle time (see wiring.py) and one more statement; 1 s is margin.
            letters_sure_after=max(self.lease, self.handle_timeout) + self.database_timeout + 1.0,
            heal=HealPolicy("off"),  # a replay runs what it was asked for
        )
