"""Unpacks compressed messages, up to a limit: a small message may unpack to gigabytes."""

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

from unlost.listener.core.errors import Misconfigured

Unpack = Callable[[bytes], bytes]
_WINDOWS = {"gzip": 31, "zlib": 15, "deflate": -15}
"""How zlib names the three formats around the same compression."""


MOST_MEMBERS = 100
MOST_WINDOW = 8 * 1024 * 1024
"""Memory that a zstd frame may ask for; RFC 8878 asks that decoders allow this much."""


class UnpackError(ValueError):
    """The message cannot be unpacked."""


def unpacker_of(method: str, most: int) -> Unpack:
    """Return what unpacks one message of up to ``most`` bytes. Bytes after the packed text are never dropped."""
    if method == "zstd":
        return _zstd(most)
    if method == "gzip":
        return lambda message: _gzip(message, most)

    def unpack(message: bytes) -> bytes:
        data, rest = _member(method, message, most)
        if rest:
            raise UnpackError(f"{len(rest):,} bytes follow the {method} text")
        return data

    return unpack


def _member(method: str, packed: bytes, most: int) -> tuple[bytes, bytes]:
    """Unpack one text; return it, and what follows it."""
    unpacker = zlib.decompressobj(_WINDOWS[method])
    try:
        data = unpacker.decompress(packed, most + 1)
    except zlib.error as error:
        raise UnpackError(f"the message is not {method}: {error}") from None
    if len(data) > most or not unpacker.eof:
        raise UnpackError(f"the message is cut off, or has more than {most:,} bytes unpacked")
    return data, unpacker.unused_data


def _gzip(message: bytes, most: int) -> bytes:
    """Unpack all members: a gzip file may have several (RFC 1952, section 2.2)."""
    data, rest = _member("gzip", message, most)
    members = 1
    while rest:
        if (members := members + 1) > MOST_MEMBERS:
            raise UnpackError(f"the message has more than {MOST_MEMBERS:,} gzip members")
        more, rest = _member("gzip", rest, most - len(data))
        data += more
    return data


def _zstd(most: int) -> Unpack:
    try:
        library: Any = import_module("zstandard")
    except ImportError:
        raise Misconfigured("decode = \"zstd\" needs the package zstandard: pip install 'unlost[zstd]'") from None

    def unpack(message: bytes) -> bytes:
        try:
            size = library.frame_content_size(message)  # -1: the frame does not say
            if size > most:
                raise UnpackError(f"the message has more than {most:,} bytes unpacked")
            unpacker = library.ZstdDecompressor(max_window_size=MOST_WINDOW)
            data: bytes = unpacker.decompress(message, max_output_size=most, allow_extra_data=False)
            # zstandard 0.25 looks for what follows only if the frame says its size. A second frame is refused, since
            # the library cannot limit what both become together.
            rest = unpacker.decompressobj() if size < 0 else None
            if rest is not None and len(rest.decompress(message)) == len(data) and rest.unused_data:
                raise UnpackError(f"{len(rest.unused_data):,} bytes follow the zstd frame")
        except library.ZstdError as error:
            raise UnpackError(f"the message is not one zstd frame of up to {most:,} bytes: {error}") from None
        return data

    return unpack
