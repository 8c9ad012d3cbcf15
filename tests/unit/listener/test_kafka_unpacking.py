"""Batches of Kafka are unpacked up to a limit, whatever they are packed with."""

import sys
import tracemalloc

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from unlost.listener.core.errors import Misconfigured
from unlost.listener.source.brokers import kafka_unpacking
from unlost.listener.source.feed.unpacking import UnpackError

METHODS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.fixture(autouse=True)
def _bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_unpacking, "UNPACKED_BYTES", 4 * 1024 * 1024)
    kafka_unpacking.bound()


def batch(kind: str, value: bytes) -> DefaultRecordBatch:
    builder = DefaultRecordBatchBuilder(2, METHODS[kind], 0, -1, -1, -1, 2**30)
    builder.append(0, 0, None, value, [])
    return DefaultRecordBatch(bytes(builder.build()))


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("size", [0, 1, 100_000, 4_000_000])
def test_a_batch_that_fits_is_read(kind: str, size: int) -> None:
    value = b"ab" * (size // 2)
    assert [bytes(one.value) for one in batch(kind, value)] == [value]


@pytest.mark.parametrize("kind", METHODS)
def test_a_batch_that_unpacks_too_large_is_refused_in_little_memory(kind: str) -> None:
    bomb = batch(kind, bytes(200 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(UnpackError):
            next(iter(bomb))
        assert tracemalloc.get_traced_memory()[1] < 50 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_another_version_of_the_library_is_refused_if_it_would_unpack_without_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(sys.modules[DefaultRecordBatch.__module__], "zstd_decode")
    with pytest.raises(Misconfigured, match=r"default_records has no zstd_decode, .*: install .*unlost\[kafka\]"):
        kafka_unpacking.bound()
