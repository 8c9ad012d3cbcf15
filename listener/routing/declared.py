"""The declarations of an application. Nothing is checked here: the start checks all of them together."""

from collections.abc import Callable
from typing import Any

import msgspec

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.order_key import AfterLetter

Function = Callable[..., Any]
When = Callable[[Delivery], bool]


class Options(msgspec.Struct, frozen=True):
    """How a route's function runs. None: the settings apply. ``key``: a path in the payload.

    ``after_letter``: what the letter of an event does to its key.
    """

    retry: Backoff | None = None
    timeout: float | None = None
    concurrency: int | None = None
    key: str | None = None
    after_letter: AfterLetter | None = None


class Declared(msgspec.Struct, frozen=True):
    """One route: a function, the types that it takes, and the condition under which it takes an event."""

    function: Function
    patterns: tuple[str, ...]
    when: When | None
    options: Options


class Upcast(msgspec.Struct, frozen=True):
    """One upcaster: makes of a payload of ``from_version`` one of the next version."""

    event_type: str
    from_version: int
    function: Function


OTHERWISE = "otherwise"
"""Stands for the pattern of the function that takes all other events."""
