"""The keys of a profile: form, limits and meaning of each. The reference page is generated from them."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unlost.listener.source.feed.forms import (
    Address,
    AgainForms,
    Body,
    CodeOrCondition,
    HeaderTable,
    Identifier,
    Message,
    PathOfEach,
    PathOfKey,
    PathText,
    Seconds,
    SecondsOrPath,
    SendAlone,
    Subprotocols,
    When,
)
from unlost.listener.source.feed.templates import template_of

SHA256 = "sha256"
GAP_VALUES = frozenset(("from", "to", "after", "before", "first", "last", "by", "next"))
"""The names that the texts of ``[backfill]`` may contain in braces."""


class Table(BaseModel):
    """A table of a profile. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Open(Table):
    """One step after connecting."""

    send: Message | None = Field(None, description="message to send")
    wait: When = Field([], description="condition on the message to wait for, after sending")
    within: Seconds = Field(10.0, description="seconds that the answer may take")


class ReplyTable(Table):
    """An answer of the application's own protocol."""

    when: When = Field(description="condition on a message")
    send: Message = Field(description="what is sent at once; {path} is a value of that message")


class Heartbeat(Table):
    """A message that is sent again and again."""

    every: SecondsOrPath = Field(description="seconds, or the path of the interval in a message of the feed")
    unit: Literal["s", "ms"] = Field("s", description="unit of the interval at that path")
    send: Message = Field(description="{path} is the last value that any message had at this path")


class Resume(Table):
    """How to continue after a cursor."""

    query: str | None = Field(None, min_length=1, description="name in the address's query that takes the cursor")
    header: str | None = Field(None, min_length=1, description="header of the request that takes it, as Last-Event-ID")
    message: Message | None = Field(None, description="message after connecting; {cursor} is the cursor")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len([one for one in (self.query, self.header, self.message) if one is not None]) != 1:
            raise ValueError("resume has one of query, header and message")
        return self


class SequenceTable(Table):
    """Numbers without holes."""

    at: PathText = Field(description="path of the number")
    by: Identifier | None = Field(None, description="path by which numbers are counted separately; none: all together")
    each_connection: bool = Field(
        False,
        description="whether numbers begin anew with each connection, or under another name, such as a session's id: "
        "then the time until a reconnect or restart is a declared gap",
    )


class AgainTable(Table):
    """When to open a new connection, and then leave the old one."""

    when: When = Field([], description="condition on the message that asks for it")
    url: PathText | None = Field(None, description="path of the new address in that message")
    every: Seconds | None = Field(None, description="also after this many seconds, before the feed ends the connection")
    missed: bool = Field(False, description="whether the feed sends nothing more after that message: a gap is declared")


class RefuseTable(Table):
    """Messages with events that this profile cannot read. Each becomes a dead letter."""

    when: When = Field(description="condition on a message; it comes before keep and drop")
    why: str = Field(min_length=1, max_length=200, description="the reason in the dead letter")


class Ack(Table):
    """How a message is acknowledged."""

    send: Message = Field(description="{path} is a value of the message that is acknowledged")
    at_once: bool = Field(
        False,
        description="whether it is sent on receipt, not once rows or letters are durable: the feed then sends nothing "
        "again; what memory holds at a kill is lost, and a gap is declared; a stop finishes it, or makes letters of it",
    )


class UrlFrom(Table):
    """The HTTP call that returns the address, made before each connection."""

    url: Address = Field(description="address of the call")
    method: Literal["GET", "POST"] = Field("POST", description="its method")
    headers: HeaderTable = Field({}, description="its headers")
    body: Body | None = Field(None, description="its body")
    at: PathText = Field("url", description="path of the WebSocket address in the answer")


class Backfill(Table):
    """An HTTP call that fetches what a gap has missed; called again for each further page.

    {from} and {to} are the times around the gap. {after} and {before} are the cursors or numbers around it. {first} and
    {last} are the missing numbers, and {by} is what is counted. {next} is what the page before says of the next one.
    """

    url: Address = Field(description="address of the call, a template")
    method: Literal["GET", "POST"] = Field("GET", description="its method")
    headers: HeaderTable = Field({}, description="its headers; files are read anew for each call")
    body: Message | None = Field(None, description="its body, a template")
    time: Literal["iso", "s", "ms", "us", "ns"] = Field("iso", description="form of {from} and {to}")
    margin: float = Field(5.0, ge=0, le=86_400, description="seconds by which {from} is earlier and {to} later")
    each: PathOfEach | None = Field(None, description="as above, for its answers")
    lines: bool = Field(False, description="as above, for its answers")
    id: Identifier | list[Identifier] | None = Field(None, description="as above; {gap.by} is {by}; none: the same")
    type: Identifier | list[Identifier] | None = Field(None, description="as above; none: the same")
    payload: PathText | None = Field(None, description="as above; none: the same")
    at: PathText | None = Field(None, description="path of an event's number; none: as in sequence")
    next: PathText | None = Field(
        None, description="path of what {next} is on the next page; none there: no more pages"
    )
    start: str | None = Field(None, description="template of what {next} is on the first page; none: empty")
    pages: int = Field(20, ge=1, le=10_000, description="most pages for one gap")
    bytes: int = Field(16 * 1024 * 1024, ge=1024, le=1024**3, description="most bytes for one gap")
    every: Seconds = Field(1.0, description="least seconds between two calls")
    after: Seconds = Field(5.0, description="seconds after which a declared gap is fetched")
    within: Seconds = Field(86_400.0, description="seconds after which it is too old")
    tries: int = Field(8, ge=1, le=100, description="most tries for one gap, further and further apart")

    @model_validator(mode="after")
    def _known_values(self) -> Self:
        if any(template_of(text).has_other_braces for text in (self.url, self.start or "")):
            raise ValueError(
                f"a brace in url or start begins no name of a gap; names are {', '.join(sorted(GAP_VALUES))}"
            )
        call = {hole for text in (self.url, self.body or "") for hole in template_of(text).holes}
        start = set(template_of(self.start or "").holes)
        unknown = (call | start) - GAP_VALUES
        if unknown:
            raise ValueError(f"a gap has no {{{min(unknown)}}}; it has {', '.join(sorted(GAP_VALUES))}")
        if (self.next is not None) != ("next" in call):
            raise ValueError("next, and {next} in url or body, belong together")
        if self.start is not None and (self.next is None or "next" in start):
            raise ValueError("start is the first {next}, so it needs next, and cannot hold {next}")
        return self


class ConnectionTable(Table):
    """The connection itself."""

    headers: HeaderTable = Field({}, description="headers of the handshake; files are read anew for each connection")
    subprotocols: Subprotocols = Field([], description="WebSocket subprotocols, the best first")
    proxy: Address | None = Field(None, description="HTTP proxy; none: no proxy, even if the environment names one")
    ca: str | None = Field(None, description="file of the certificates to trust")
    cert: str | None = Field(None, description="file of the client's certificate")
    key: str | None = Field(None, description="file of its private key")
    compression: bool = Field(False, description="whether messages may be compressed (permessage-deflate)")

    @model_validator(mode="after")
    def _certificate(self) -> Self:
        if self.key is not None and self.cert is None:
            raise ValueError("key is given without cert")
        return self


class Profile(Table):
    """One feed."""

    url: Address | None = Field(None, description="address of the feed; http:// and https:// are server-sent events")
    url_from: UrlFrom | None = Field(None, description="HTTP call that returns the address, before each connection")
    open: list[Annotated[Open, SendAlone]] = Field(
        [], description="messages after connecting, in this order; each may wait for an answer"
    )
    reply: list[ReplyTable] = Field([], description="answers of the application's own protocol, such as pongs")
    heartbeat: Heartbeat | None = Field(None, description="message that is sent at an interval")
    keep: When = Field([], description="condition on messages with events; all others are control, never stored")
    drop: When = Field([], description="condition on control messages, which are never stored")
    refuse: list[RefuseTable] = Field([], description="messages with events that cannot be read; each is a dead letter")
    each: PathOfEach | None = Field(
        None, description="path of the events in one message; one of more than 10,000 or so becomes a letter as it is"
    )
    lines: bool = Field(False, description="whether each line of a message is a message of its own")
    strip: str = Field("", description="text before the JSON of a message; it is cut off")
    decode: Literal["gzip", "zlib", "deflate", "zstd"] | None = Field(None, description="how messages are compressed")
    id: Identifier | list[Identifier] = Field(
        description='path or template of its id, or a list: the first that is there; "sha256": hash of type and payload'
    )
    type: Identifier | list[Identifier] | None = Field(
        None, description='path or template of its type, or a list; "=text" is a constant'
    )
    payload: PathText | None = Field(None, description="path of its payload; none: the whole event")
    key: PathOfKey | None = Field(None, description="path of the key in whose order events are processed, as ORDER_BY")
    cursor: PathText | None = Field(None, description="path of the position after which the feed can resume")
    resume: Resume | None = Field(None, description="how the feed is asked to continue after the cursor")
    overlap: int = Field(
        0,
        ge=0,
        description="how much is read again: subtracted from a cursor that is a number; a gap if nothing of it comes",
    )
    sequence: SequenceTable | None = Field(
        None, description="numbers without holes; what is missing, or begins anew, is a gap"
    )
    again: Annotated[AgainTable, AgainForms] | None = Field(
        None, description="when a new connection is opened before the old one is left"
    )
    ack: Annotated[Ack, SendAlone] | None = Field(
        None, description="acknowledgement, once the events of a message are rows or letters"
    )
    stop_on: list[CodeOrCondition] = Field(
        [], description="close codes, and conditions, after which retrying soon is pointless"
    )
    fresh: Seconds | None = Field(None, description="seconds without any message after which a gap is declared")
    backfill: Backfill | None = Field(None, description="HTTP call that fetches what a gap has missed")
    wire: ConnectionTable = Field(
        default_factory=lambda: ConnectionTable.model_validate({}), description="the connection itself"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems: list[str] = []
        if (self.url is None) == (self.url_from is None):
            problems.append("a profile has either url or url_from")
        if (self.cursor is None) != (self.resume is None):
            problems.append("cursor and resume belong together")
        if self.keep and self.drop:
            problems.append("keep and drop are opposites; give one")
        if (self.url or "").startswith(("http://", "https://")) and (
            self.open or self.reply or self.heartbeat or self.ack
        ):
            problems.append("server-sent events (http://) take no open, reply, heartbeat and ack")
        if self.lines and self.ack is not None:
            problems.append("lines and ack do not go together: a message is acknowledged as a whole")
        if self.overlap and self.cursor is None:
            problems.append("overlap needs cursor")
        if problems:
            raise ValueError("; ".join(problems))
        return self


ALL_TABLES: Sequence[type[Table]] = (
    Open, ReplyTable, Heartbeat, RefuseTable, Resume, SequenceTable, AgainTable, Ack, UrlFrom, Backfill, ConnectionTable
)  # fmt: skip
