"""Why a WebSocket connection was lost or could not be opened. Pure.

Everything here comes from the network and may be hostile: a hostile handshake makes the library raise nearly anything.
"""

import re

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from unlost.listener.core.errors import UnlostError
from unlost.listener.ports.source import Loss
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.tls import tls_failure

ABNORMAL = 1006
"""The code for a connection that ended without a close frame (RFC 6455, section 7.4.1)."""
LONGEST_WAIT = 600.0
LONGEST_WORDS = 300
_SECONDS = re.compile(r"[0-9]{1,9}")


def status_of(error: Exception) -> int | None:
    """Return the HTTP status with which a handshake was refused."""
    return error.response.status_code if isinstance(error, InvalidStatus) else None


def loss_of(error: Exception, *, ca: str = "WS_CA", cert: str = "WS_CERT") -> Loss:
    """Return why a connection was lost or could not be opened. ``ca`` and ``cert``: see ``WebSocketOptions``."""
    if isinstance(error, ConnectionClosed):
        return _closed(error)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return Loss(f"the source answered HTTP {status}", wait=retry_after(error.response.headers))
    if failed := tls_failure(error, ca=ca, cert=cert):
        return Loss(failed)
    if isinstance(error, OSError | TimeoutError | UnlostError):
        return Loss(_shown(str(error)) or type(error).__name__)
    return Loss(f"the source's handshake is invalid: {type(error).__name__}: {_shown(str(error))}")


def retry_after(headers: Headers) -> float:
    """Return the longest ``Retry-After`` in whole seconds, up to ten minutes; anything else counts as 0."""
    delays = [float(one) for one in headers.get_all("Retry-After") if _SECONDS.fullmatch(one.strip())]
    return min(LONGEST_WAIT, max(delays, default=0.0))


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
