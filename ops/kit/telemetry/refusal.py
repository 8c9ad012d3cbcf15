"""The response to a request that is refused before the application has seen it. Pure."""

from collections.abc import Sequence

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE


def refusal(status: int, why: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The whole response. The connection closes after it."""
    body = msgspec.json.encode({"error": why})
    lines = [b"%b: %b\r\n" % field for field in headers]
    lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body))
    if status == 503:
        lines.append(b"retry-after: 1\r\n")
    return b"%b%bconnection: close\r\n\r\n%b" % (STATUS_LINE[status], b"".join(lines), body)
