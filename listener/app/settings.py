"""The settings of a listener, with defaults, limits and the relations between them.

The options of the reader and of its sources are imported by the methods that make them. So help, and commands that
share settings with a listener, do not import its sources.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from unlost.listener.app.connection_settings import CURSOR_BYTES, ConnectionSettings, ReadSettings
from unlost.listener.app.notify_settings import NotifySettings
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.order_key import PATH, AfterLetter
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.pipeline.policy import Policy
from unlost.ops.kit.access.settings import AccessSettings
from unlost.ops.kit.access.tls_settings import SourceTlsSettings
from unlost.ops.kit.command import Secret, SecretUrl, SecretUrls, WebAddress

if TYPE_CHECKING:
    from unlost.listener.source.reader import ReadingOptions
    from unlost.listener.source.stream.stream import StreamOptions

ORDERED_BY = " ordered by "
MOST_DECLARED = 300
"""The largest number of characters in which the keys of routes are declared."""


def handler_of(declared: str | None) -> str | None:
    """Return the handler's name in what a listener declared."""
    return (declared or "").partition(ORDERED_BY)[0].removesuffix("@") or None


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
    partitions: Literal["off", "on"] = Field(
        "off",
        description="Whether each listener of the group reads a share of Unlost's own stream, instead of all of it",
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
    order_after_letter: AfterLetter = Field(
        "park",
        description="After a letter, later events of its key park as letters, continue, or park while reading stops; "
        "a route may have its own policy",
    )
    shutdown_timeout: float = Field(20.0, ge=0, description="Seconds that running work may take to finish on SIGTERM")

    @property
    def declared(self) -> str | None:
        """The handler's name, and the key in whose order events are processed. The handler's name ends at an @."""
        return self.declared_with({}, {})

    def declared_with(self, keys: Mapping[str, str], policies: Mapping[str, AfterLetter]) -> str | None:
        """Return the same, with the keys and policies that the handler declares, by pattern of types."""
        said = [(pattern, key) for pattern, key in keys.items()]
        said += [(pattern, f"then {policy}") for pattern, policy in policies.items()]
        routes = ", ".join(f"{what} of {pattern}" for pattern, what in sorted(said))
        if len(routes) > MOST_DECLARED:
            routes = f"keys {hashlib.sha256(routes.encode()).hexdigest()[:16]} of {len({*keys, *policies})} routes"
        after = "" if self.order_after_letter == "park" else f"then {self.order_after_letter}"
        order = "; ".join(filter(None, (self.order_by, routes, after)))
        if not order:
            return self.handler_name
        name = self.handler_name or ""
        return f"{name if '@' in name else f'{name}@'}{ORDERED_BY}{order}"

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

    @model_validator(mode="after")
    def _partitions_resume(self) -> Self:
        if self.partitions == "on" and self.source_resumes == "no":
            raise ValueError("--partitions on (PARTITIONS) needs a source that resumes, which --source-resumes denies")
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
                "after_letter": self.order_after_letter,
            }
        )

    def healing(self) -> HealPolicy:
        """Which letters listeners retry by themselves, and when."""
        return HealPolicy(self.heal, self.heal_first, self.heal_max, self.heal_attempts, self.heal_rate)

    def reading(self) -> "ReadingOptions":
        """The settings of the reader."""
        from unlost.listener.source.reader import ReadingOptions

        return ReadingOptions(self.group, self.start_from, FullJitter(self.reconnect_first, self.reconnect_max))

    def stream(self, url: str = "") -> "StreamOptions":
        """The settings of a source with our own envelope; by default, at WS_URL."""
        from unlost.listener.source.stream.handshake import source_name
        from unlost.listener.source.stream.stream import StreamOptions
        from unlost.listener.source.websocket.connection import WebSocketOptions

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
