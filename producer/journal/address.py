"""The address of a journal: a file, a database of PostgreSQL, or a stream of JetStream. Pure."""

from typing import Annotated

from pydantic import AfterValidator

from unlost.ops.kit.command import PathOrUrl
from unlost.producer.journal.nats_address import SCHEME as NATS
from unlost.producer.journal.nats_address import read_address

SCHEMES = ("postgresql://", "postgres://")


def _journal(value: PathOrUrl) -> PathOrUrl:
    if is_in_jetstream(value):
        read_address(value.reveal())
    elif value.path is None and not value.reveal().startswith(SCHEMES):
        raise ValueError(
            "must be a file, or an address such as postgresql://user:pw@host:5432/name or nats://host:4222/stream"
        )
    return value


JournalAddress = Annotated[PathOrUrl, AfterValidator(_journal)]
"""A file, a database of PostgreSQL, or a stream of JetStream."""


def is_in_jetstream(value: PathOrUrl) -> bool:
    """Whether this journal is a stream of JetStream."""
    return value.reveal().startswith(NATS)
