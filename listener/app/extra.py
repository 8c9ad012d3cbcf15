"""Imports an adapter whose library is an optional extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from unlost.listener.core.errors import Misconfigured


@contextmanager
def extra(name: str, item: str) -> Iterator[None]:
    """Say which extra an address needs, if a library is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        scheme = item.partition(":")[0]
        raise Misconfigured(
            f"SOURCE={scheme}://… needs the library {error.name}, which is not installed: pip install 'unlost[{name}]'"
        ) from None
