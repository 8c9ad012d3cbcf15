"""HTTP calls that a feed needs beside its connection.

Time, and the bytes of an answer, are bounded, packed or unpacked. Redirects are not followed: headers hold secrets.
The library is imported at the first call, because most listeners make none.
"""

import asyncio
import functools
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from unlost.listener.core.errors import Transient
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.feed.unpacking import UnpackError, unpacker_of
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.tls import tls_failure

if TYPE_CHECKING:
    import httpx

LARGEST_ANSWER = 4 * 1024 * 1024
CALL_SECONDS = 10.0
"""For the whole call: an answer that drips would never meet a limit for each read."""
PLAIN = {"Accept-Encoding": "identity"}
PACKED = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "zlib"}
LONGEST_WAIT = 600.0
QUOTED = 200


class CallRefused(SourceEnded):
    """The server answered with an error. ``status``: its HTTP status."""

    def __init__(self, loss: Loss, status: int) -> None:
        super().__init__(loss)
        self.status = status


class TooLarge(Transient):
    """The answer has more bytes than an answer may have."""


class Call(Protocol):
    """Makes one HTTP call and returns the body of the answer; ``SourceEnded`` if it fails."""

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: str | None = None
    ) -> bytes:  # fmt: skip
        """Make it."""
        ...


async def call(
    method: str, url: str, headers: Mapping[str, str], body: str | None = None, *, most: int = LARGEST_ANSWER
) -> bytes:  # fmt: skip
    """See ``Call``. ``most``: bytes that the answer may have."""
    import httpx

    try:
        async with (
            asyncio.timeout(CALL_SECONDS),
            httpx.AsyncClient(timeout=None, trust_env=False, verify=system_trust()) as client,  # noqa: S113 - see the line above
            client.stream(method, url, headers={**PLAIN, **headers}, content=body) as answer,
        ):
            data = await _body(url, answer, most)
            if not answer.is_success:
                raise _refused(url, answer, data)
            return data
    except TimeoutError:
        raise SourceEnded(Loss(f"{masked(url)} did not answer in full in {CALL_SECONDS:g} s")) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a header that cannot be sent
        failed = tls_failure(error, ca=SYSTEM_CA, cert="")
        said = failed or f"{type(error).__name__} {masked(str(error))}"
        raise SourceEnded(Loss(f"{masked(url)} cannot be called: {said}")) from error


SYSTEM_CA = "SSL_CERT_FILE in the environment"


@functools.cache
def system_trust() -> ssl.SSLContext:
    """Return what trusts the authorities of the system, as a WebSocket connection without ``wire.ca`` does."""
    return ssl.create_default_context()


async def _body(url: str, answer: "httpx.Response", most: int) -> bytes:
    data = bytearray()
    async for piece in answer.aiter_raw():
        data += piece
        if len(data) > most:
            raise TooLarge(f"the answer of {masked(url)} has more than {most:,} bytes")
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in ("", "identity") or not data:
        return bytes(data)
    if packing not in PACKED:
        raise Transient(f"the answer of {masked(url)} is packed, unasked, as {printable(packing[:40])}")
    try:
        return unpacker_of(PACKED[packing], most)(bytes(data))
    except UnpackError as error:
        raise Transient(f"the answer of {masked(url)} cannot be unpacked: {error}") from None


def _refused(url: str, answer: "httpx.Response", body: bytes) -> CallRefused:
    said = printable(masked(body[:QUOTED].decode(errors="replace")))
    why = f"{masked(url)} answered HTTP {answer.status_code}" + (f": {said}" if said else "")
    return CallRefused(Loss(why, wait=retry_after(answer.headers.get("Retry-After", ""))), answer.status_code)


def retry_after(text: str) -> float:
    """Return the seconds of a ``Retry-After``, up to ten minutes; 0 for anything else."""
    text = text.strip()
    return min(LONGEST_WAIT, float(text)) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
