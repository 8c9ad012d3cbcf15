"""The two streams of a journal: made if they are missing, and checked at each start.

``NAME`` has the events. ``NAME-state`` has one message, the newest: what groups have settled, and how far retention is.
"""

import asyncio
import secrets
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog

from unlost.producer.journal.jetstream.connection import NO_STREAM, ApiAnswer, JetStreamConnection, RequestRefused
from unlost.producer.journal.jetstream.messages import subjects_of
from unlost.producer.journal.moves import Mark, refuse_marked
from unlost.producer.journal.nats_address import JetStreamAddress
from unlost.producer.journal.port import JournalError

IDENTITY = "unlost-journal"
IDENTITY_BYTES = 6
STATE, OTHER = "unlost-moving", "unlost-moving-other"
"""The mark of a journal that has moved, or that is being made of another."""
CLUSTER_NEEDED, NAME_TAKEN = 10074, 10058
OLDEST_SERVER = (2, 12)
HEADERS_BYTES = 4_096
"""Room for the headers of a message beside its body."""
MONITOR_SECONDS = 3.0


class Unfit(JournalError):
    """A server or stream that cannot hold a journal. Trying again does not help."""


class StreamState(msgspec.Struct):
    """The numbers of a stream."""

    first_seq: int
    last_seq: int


class StreamInfo(ApiAnswer):
    """A stream as the server describes it."""

    config: dict[str, Any] = msgspec.field(default_factory=dict)
    state: StreamState = msgspec.field(default_factory=lambda: StreamState(0, 0))

    @property
    def metadata(self) -> dict[str, str]:
        """The notes beside the stream, ours and the server's."""
        return dict(self.config.get("metadata") or {})

    @property
    def identity(self) -> str:
        """The journal's identity; empty if no producer has made this stream."""
        return self.metadata.get(IDENTITY, "")

    @property
    def mark(self) -> Mark | None:
        """The mark, if there is one."""
        metadata = self.metadata
        return (
            msgspec.convert({"state": metadata[STATE], "other": metadata[OTHER]}, Mark) if STATE in metadata else None
        )


def state_stream(stream: str) -> str:
    """The stream with the state of a journal."""
    return f"{stream}-state"


def state_subject(stream: str) -> str:
    """The subject of a journal's state."""
    return f"{stream}.state"


async def info_of(connection: JetStreamConnection, stream: str) -> StreamInfo:
    """Ask the leader about a stream."""
    return await connection.api(f"STREAM.INFO.{stream}", None, StreamInfo)


async def prepared(connection: JetStreamConnection, address: JetStreamAddress, largest_body: int) -> StreamInfo:
    """Make the streams if they are missing, and check them. Raises ``Unfit``, or ``Moved``."""
    await check_server(connection, largest_body)
    events = await made(connection, address, events_config(address, secrets.token_hex(IDENTITY_BYTES)))
    state = await made(connection, address, state_config(address))
    check_streams(events, state, address)
    refuse_marked(address.shown, events.mark)
    return events


async def check_server(connection: JetStreamConnection, largest_body: int) -> None:
    """Raise ``Unfit`` for a server that cannot hold a journal."""
    client = await connection.client()
    version = client.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        raise Unfit(f"nats-server is {version.major}.{version.minor}; a journal needs 2.12 or newer")
    if client.max_payload < largest_body + HEADERS_BYTES:
        raise Unfit(
            f"nats-server takes messages of {client.max_payload:,} bytes, and MAX_EVENT_BYTES is {largest_body:,}: set "
            f"max_payload in its configuration to {largest_body + HEADERS_BYTES:,} or more, or MAX_EVENT_BYTES lower"
        )


def check_streams(events: StreamInfo, state: StreamInfo, address: JetStreamAddress) -> None:
    """Raise ``Unfit`` for streams that would lose events."""
    wrong = [*_wrong(events.config, address, is_state=False), *_wrong(state.config, address, is_state=True)]
    if wrong:
        raise Unfit(f"the streams of {address.shown} cannot hold a journal: {'; '.join(wrong)}")
    if address.replicas is None and events.config["num_replicas"] == 1:
        structlog.get_logger().warning("journal_has_one_copy", journal=address.shown)


def events_config(address: JetStreamAddress, identity: str) -> dict[str, Any]:
    """The configuration of a new stream of events."""
    return {
        "name": address.stream,
        "subjects": subjects_of(address.stream),
        "duplicate_window": int(address.window * 1e9),
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": {IDENTITY: identity},
    }


def state_config(address: JetStreamAddress) -> dict[str, Any]:
    """The configuration of a new stream of states."""
    return {
        "name": state_stream(address.stream),
        "subjects": [state_subject(address.stream)],
        "max_msgs_per_subject": 1,
    }


async def made(connection: JetStreamConnection, address: JetStreamAddress, config: Mapping[str, Any]) -> StreamInfo:
    """Make a stream, unless it is there. Raises ``Unfit``."""
    name: str = config["name"]
    try:
        return await info_of(connection, name)
    except RequestRefused as refused:
        if refused.code != NO_STREAM:
            raise
    for replicas in [address.replicas] if address.replicas else [3, 1]:
        wanted = {
            "retention": "limits", "storage": "file", "discard": "new", "max_consumers": -1, "max_msgs": -1,
            "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1, "num_replicas": replicas, **config,
        }  # fmt: skip
        try:
            return await connection.api(f"STREAM.CREATE.{name}", wanted, StreamInfo)
        except RequestRefused as refused:
            if refused.code == NAME_TAKEN:  # another producer was faster
                return await info_of(connection, name)
            if refused.code != CLUSTER_NEEDED:
                raise
    raise Unfit(f"{address.shown}: replicas={address.replicas} needs a cluster, and this is one server")


def _wrong(config: Mapping[str, Any], address: JetStreamAddress, *, is_state: bool) -> list[str]:
    """Why events could be lost in a stream with this configuration."""
    name = config["name"]
    least = address.replicas or 1
    rules = {
        f"{name} is no stream of an Unlost producer": is_state or IDENTITY in (config.get("metadata") or {}),
        f"{name} is in memory": config["storage"] == "file",
        f"{name} has {config['num_replicas']} replicas, not {least}": config["num_replicas"] >= least,
        f"{name} removes messages by itself": config["retention"] == "limits"
        and all(config.get(limit, -1) <= 0 for limit in ("max_age", "max_msgs", "max_bytes"))
        and (is_state or config.get("max_msgs_per_subject", -1) <= 0),
        f"{name} answers before messages are on disk (persist_mode)": config.get("persist_mode") in (None, "default"),
        f"{name} needs allow_atomic and allow_direct": is_state
        or bool(config.get("allow_atomic") and config.get("allow_direct")),
        f"{name} must not allow rollups": not config.get("allow_rollup_hdrs"),
        f"{name} must be writable (sealed, deny_purge)": not (config.get("sealed") or config.get("deny_purge")),
    }
    return [words for words, holds in rules.items() if not holds]


async def check_sync(address: JetStreamAddress) -> None:
    """Refuse a server that answers before a message is on its disk, as far as its monitoring says so."""
    if not address.monitors:
        structlog.get_logger().warning(
            "journal_sync_unknown", journal=address.shown,
            why="nobody knows whether nats-server syncs before it answers; set sync_interval: always there, and "
            "monitor=http://host:8222 in JOURNAL, so that each start checks it",
        )  # fmt: skip
    said = await asyncio.gather(*(asyncio.to_thread(_syncs, one) for one in address.monitors))
    _judge(address.monitors, said)


def _judge(monitors: Sequence[str], said: Sequence[bool | None]) -> None:
    for monitor, syncs in zip(monitors, said, strict=True):
        if syncs is None:
            structlog.get_logger().warning("journal_sync_unknown", why=f"{monitor}/jsz does not answer as nats-server")
        elif not syncs:
            raise Unfit(
                f"the nats-server at {monitor} answers before events are on its disk, so a power failure would lose "
                "accepted ones: set sync_interval: always in its jetstream block"
            )


def _syncs(monitor: str) -> bool | None:
    """Whether this server syncs each message; None if that is unknown."""
    try:
        with urllib.request.urlopen(f"{monitor}/jsz", timeout=MONITOR_SECONDS) as reply:  # noqa: S310  checked: http
            config = msgspec.json.decode(reply.read()).get("config") or {}
    except (OSError, ValueError, AttributeError):
        return None
    return config.get("sync_always") is True if "sync_interval" in config else None
