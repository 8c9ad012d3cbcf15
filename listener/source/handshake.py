"""Reads a source's handshake, writes its address, and says why a connection was lost. Pure.

Everything here comes from the network and may be hostile. Anything invalid is refused with a sentence, never trusted,
and never raised as an error of the library. Only the headers of Unlost's own producer prove that a source resumes.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from unlost.listener.core.errors import Transient, UnlostError
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable

ABNORMAL = 1006
"""The code for a connection that ended without a close frame (RFC 6455, section 7.4.1)."""
LONGEST_WAIT = 600.0
LONGEST_WORDS = 300
_CURSOR = re.compile(r"[!-~]{0,255}[0-9]")
_BYTES = re.compile(r"[0-9]{1,12}")
_SECONDS = re.compile(r"[0-9]{1,9}")


class Handshake(NamedTuple):
    """The headers of a source about itself. ``oldest`` and ``cursor`` are set together or not at all.

    ``max_event``: how many bytes the largest event may have that it sends.
    """

    oldest: str | None = None
    cursor: str | None = None
    gap: str | None = None
    max_event: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether the source is Unlost's producer, which resumes after a cursor."""
        return self.oldest is not None


class Loss(NamedTuple):
    """Why there is no connection. ``code`` and ``reason``: from the close frame; ``wait``: what the source asks for."""

    why: str
    code: int | None = None
    reason: str = ""
    wait: float = 0.0

    def shown(self) -> dict[str, object]:
        """Return it in the form that health shows."""
        return {"why": self.why, "code": self.code, "reason": self.reason}


class SourceRefused(UnlostError):
    """No connection could be opened."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def status(self) -> int | None:
        """The HTTP status, if there was an answer."""
        return self.error.response.status_code if isinstance(self.error, InvalidStatus) else None


def handshake_of(headers: Headers) -> Handshake:
    """Read the headers; ``Transient`` if one that is allowed once occurs twice."""
    oldest, cursor = _one(headers, "unlost-oldest"), _one(headers, "unlost-cursor")
    gap, max_event = _one(headers, "unlost-gap"), _one(headers, "unlost-max-event") or ""
    if oldest is None or cursor is None or not (_CURSOR.fullmatch(oldest) and _CURSOR.fullmatch(cursor)):
        return Handshake()
    return Handshake(oldest, cursor, gap, int(max_event) if _BYTES.fullmatch(max_event) else 0)


def loss_of(error: Exception) -> Loss:
    """Say why a connection was lost or could not be opened."""
    if isinstance(error, SourceRefused):
        error = error.error
    if isinstance(error, ConnectionClosed):
        return _closed(error)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return Loss(f"the source answered HTTP {status}", wait=retry_after(error.response.headers))
    if isinstance(error, OSError | TimeoutError | UnlostError):
        return Loss(_shown(str(error)) or type(error).__name__)
    return Loss(f"the source's handshake makes no sense: {type(error).__name__}: {_shown(str(error))}")


def retry_after(headers: Headers) -> float:
    """Return the longest ``Retry-After`` in whole seconds, up to ten minutes; anything else counts as 0."""
    delays = [float(one) for one in headers.get_all("Retry-After") if _SECONDS.fullmatch(one.strip())]
    return min(LONGEST_WAIT, max(delays, default=0.0))


def with_cursor(url: str, after: str | None) -> str:
    """Return the address that asks for the events after this cursor."""
    if after is None:
        return url
    parts = urlsplit(url)
    # Keep the rest of the query as it was written: it may be signed.
    query = [one for one in parts.query.split("&") if one and one.partition("=")[0] != "after"]
    return urlunsplit(parts._replace(query="&".join([*query, f"after={quote(after, safe='')}"])))


def source_name(url: str) -> str:
    """Return the name under which a source's cursor is kept: its address without credentials and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path or "/", "", ""))


def _one(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    if len(values) > 1:
        raise Transient(f"the source's handshake has the header {name} {len(values)} times; it may stand once")
    return values[0] if values else None


def _closed(error: ConnectionClosed) -> Loss:
    if error.rcvd is not None:
        reason = _shown(error.rcvd.reason)
        said = f": {reason}" if reason else ""
        return Loss(f"the source closed the connection with code {error.rcvd.code}{said}", error.rcvd.code, reason)
    if error.sent is not None:
        reason = _shown(error.sent.reason)
        return Loss(f"what the source sent broke the protocol (code {error.sent.code}): {reason}", ABNORMAL)
    cause = f": {_shown(str(error.__cause__))}" if error.__cause__ is not None else ""
    return Loss(f"the connection ended without a close frame{cause}", ABNORMAL)


def _shown(text: str) -> str:
    """Prepare foreign text for logs and terminals: one line, bounded, no control characters, no passwords."""
    return masked(printable(text[:LONGEST_WORDS]))
