"""A connection for publishing, without a network. The test decides step by step what comes and goes."""

import asyncio
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from tests.support.fakes import as_a
from unlost.ops.kit.access.gate import UNLIMITED, Gate
from unlost.ops.kit.access.hosts import Hosts
from unlost.ops.kit.access.middleware import Access
from unlost.ops.kit.telemetry.admission import Admission
from unlost.ops.kit.telemetry.guarded import GuardedProtocol
from unlost.producer.app.http import right_for
from unlost.producer.fast.publish import PATH, FastPublishProtocol, PlainHeads
from unlost.producer.journal.port import JournalError, Placed
from unlost.producer.journal.publications import Publication
from unlost.producer.publish.accept import publication
from unlost.producer.publish.publisher import Done, GroupCommit, Overloaded
from unlost.producer.publish.single import PublishOne, Shortcut

LIMIT = 2_000
TURNS = 100


class PublishTransport(asyncio.Transport):
    """The transport of a connection. It keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = True
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def write_eof(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class Places:
    """A publisher whose outcome depends on the event's id. It can hold its answers back."""

    def __init__(self) -> None:
        self.taken: list[Publication] = []
        self.held: list[Any] | None = None

    def submit(
        self, publications: tuple[Publication], done: Done, *, together: object = None, owner: object = None
    ) -> None:
        del together, owner
        (one,) = publications
        if one.event_id == "crowd":
            raise Overloaded("too many")
        outcome: list[Placed] | Exception = [Placed("accepted", f"j.{len(self.taken)}")]
        if one.event_id == "trouble":
            outcome = JournalError("the disk is full")
        elif one.event_id == "defect":
            outcome = ZeroDivisionError("a defect")
        elif one.event_id in {old.event_id for old in self.taken}:
            outcome = [Placed("redelivered" if one.redeliver else "duplicate", "j.0")]
        self.taken.append(one)
        if self.held is None:
            asyncio.get_running_loop().call_soon(done, outcome)
        else:
            self.held.append(partial(done, outcome))


class Connected:
    """A connection to a server, with or without the fast path."""

    def __init__(self, *, shortened: bool, admission: Admission | None = None) -> None:
        self.places = Places()
        self.answered: list[str] = []
        single = PublishOne(
            as_a(GroupCommit, self.places), lambda status, _: self.answered.append(status),
            lambda body, again: publication(body, max_bytes=LIMIT, redeliver=again), max_bytes=LIMIT,
            quota_of=lambda _: UNLIMITED,
        )  # fmt: skip
        app = Starlette(routes=[Route(PATH, single, methods=["POST"]), Route("/{any}", _greet)])
        gate = Gate(CollectorRegistry(), hosts=Hosts.of(["here"]))
        config = Config(
            Access(Shortcut(app, PATH, single), gate, right_for), ws="none", lifespan="off", log_config=None
        )
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        made = (
            partial(FastPublishProtocol, single, PlainHeads(max_bytes=LIMIT, gate=gate))
            if shortened
            else GuardedProtocol
        )
        self.admission = admission or Admission(budget=1024 * 1024)
        self.protocol: GuardedProtocol = made(
            config=config, server_state=self.state, app_state={}, admission=self.admission
        )
        self.wire = PublishTransport()
        self.protocol.connection_made(self.wire)

    async def read(self, piece: bytes) -> None:
        """Deliver bytes as the event loop does: only while reading is not paused."""
        await self.settle()
        assert self.wire.reads, "reading never resumes while it waits for answers"
        if not self.wire.closed:
            self.protocol.data_received(piece)

    async def settle(self) -> None:
        """Run the loop until everything possible has been done."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def end(self) -> tuple[bytes, bool, list[Publication], list[str]]:
        await self.settle()
        answered = self.wire.written, self.wire.closed, self.places.taken, self.answered
        self.wire.closed = True
        self.protocol.connection_lost(None)
        self.protocol._unset_keepalive_if_required()  # noqa: SLF001  uvicorn does it when the loop goes on
        return answered


async def _greet(request: Request) -> Response:
    return PlainTextResponse(request.url.path, 404)


def post(body: bytes, *headers: bytes, target: bytes = b"/publish") -> bytes:
    head = (b"POST %b HTTP/1.1" % target, b"host: here", *headers, b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body
