"""Unpacks batches of Kafka, up to a limit: a broker bounds packed bytes alone, and 600 KB may unpack to 600 MB.

aiokafka has no limit of its own. ``bound`` puts these functions where its readers of batches look for theirs.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from unlost.listener.core.errors import Misconfigured
from unlost.listener.source.feed.unpacking import UnpackError, unpacker_of

UNPACKED_BYTES = 64 * 1024 * 1024
"""The limit of one unpacked batch: some hundred times the default batch size of producers."""
FIRST_GUESS = 8
"""How many times its packed length a batch may have at the first attempt."""
XERIAL = b"\x82SNAPPY\x00"
XERIAL_HEAD = 16

Unpack = Callable[[Any], bytes]


def bound() -> None:
    """Let aiokafka unpack by these functions, in this whole process."""
    for kind, names in READERS.items():
        module = sys.modules[kind.__module__]
        if missing := [name for name in names if not hasattr(module, name)]:
            raise Misconfigured(
                f"{module.__name__} has no {' and no '.join(missing)}, so what it unpacks cannot be limited: install "
                'the version of aiokafka that "unlost[kafka]" names'
            )
        for name in names:
            setattr(module, name, UNPACK[name])


def _gzip(packed: Any) -> bytes:
    return unpacker_of("gzip", UNPACKED_BYTES)(bytes(packed))


def _lz4(packed: Any) -> bytes:
    return _into(_library().lz4, bytes(packed))


def _zstd(packed: Any) -> bytes:
    return _into(_library().zstd, bytes(packed))


def _into(method: Any, packed: bytes) -> bytes:
    """Unpack into a buffer. If it proves too small, try a larger one, up to the limit."""
    size = min(UNPACKED_BYTES, FIRST_GUESS * len(packed) + 65_536)
    while True:
        buffer = bytearray(size)
        try:
            return bytes(memoryview(buffer)[: method.decompress_into(packed, buffer)])
        except _library().DecompressionError as error:
            if size >= UNPACKED_BYTES:
                raise UnpackError(f"it is damaged, or has more than {UNPACKED_BYTES:,} bytes: {error}") from None
        size = min(UNPACKED_BYTES, 4 * size)


def _snappy(packed: Any) -> bytes:
    """Unpack one block, or those of xerial's format: 16 bytes, then each block after its length."""
    data = bytes(packed)
    if not data.startswith(XERIAL):
        return _block(data, UNPACKED_BYTES)
    unpacked, at = bytearray(), XERIAL_HEAD
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        unpacked += _block(data[at + 4 : end], UNPACKED_BYTES - len(unpacked))
        at = end
    return bytes(unpacked)


def _block(data: bytes, most: int) -> bytes:
    """Unpack a block, which begins with its unpacked length."""
    snappy, error = _library().snappy, _library().DecompressionError
    try:
        if snappy.decompress_raw_len(data) > most:
            raise UnpackError(f"it has more than {UNPACKED_BYTES:,} bytes")
        return bytes(snappy.decompress_raw(data))
    except error as damaged:
        raise UnpackError(f"it is damaged: {damaged}") from None


def _library() -> ModuleType:
    return import_module("cramjam")  # aiokafka has asked for it before


UNPACK: dict[str, Unpack] = {
    "gzip_decode": _gzip, "lz4_decode": _lz4, "snappy_decode": _snappy, "zstd_decode": _zstd,
}  # fmt: skip
READERS: dict[type, tuple[str, ...]] = {
    DefaultRecordBatch: ("gzip_decode", "lz4_decode", "snappy_decode", "zstd_decode"),
    LegacyRecordBatch: ("gzip_decode", "lz4_decode", "snappy_decode"),
}
"""Which functions the module of each reader of batches uses."""
