"""Passes a WebSocket handshake to the gate, and answers refused ones."""

import http
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.request import PROTOCOL, AccessRequest, Refusal
from unlost.ops.kit.telemetry.tls import subject_of

REVOKED = CloseCode.POLICY_VIOLATION, "this token is not valid any more"


def asked(connection: ServerConnection, request: Request, *, right: Right | None) -> AccessRequest:
    """The parts of a handshake that the gate needs."""
    headers, address = request.headers, connection.remote_address
    origins = headers.get_all("Origin")
    return AccessRequest(
        what="stream", address=address[0] if address else "", right=right, hosts=headers.get_all("Host"),
        origin=", ".join(origins) if origins else None, authorization=headers.get_all("Authorization"),
        subject=subject_of(connection.transport.get_extra_info("peercert")),
        protocols=",".join(headers.get_all("Sec-WebSocket-Protocol")),
    )  # fmt: skip


def refused(connection: ServerConnection, refusal: Refusal) -> Response:
    """The answer to a refused handshake."""
    response = connection.respond(http.HTTPStatus(refusal.status), f"{refusal.why}\n")
    for name, value in refusal.headers:
        response.headers[name] = value
    return response


def subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:  # noqa: ARG001
    """Choose ours if it is offered: a browser that offers any wants one back. A token is never sent back."""
    return Subprotocol(PROTOCOL) if PROTOCOL in offered else None


def may_not_report(group: str) -> str:
    """Why a client is disconnected that reports for a group."""
    return f"this token may not report for {group}; it must name the group"[:120]
