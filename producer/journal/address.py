"""The address of a journal: a file, or a database of PostgreSQL. Pure."""

from typing import Annotated

from pydantic import AfterValidator

from unlost.ops.kit.command import PathOrUrl

SCHEMES = ("postgresql://", "postgres://")


def _journal(value: PathOrUrl) -> PathOrUrl:
    if value.path is None and not value.reveal().startswith(SCHEMES):
        raise ValueError("must be a file, or an address such as postgresql://user:pw@host:5432/name")
    return value


JournalAddress = Annotated[PathOrUrl, AfterValidator(_journal)]
"""A file, or a database of PostgreSQL."""
