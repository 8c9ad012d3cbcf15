"""Finds the feed that one item of SOURCE names: a profile of ours, a profile in a file, or a Python class."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from unlost.listener.app.extra import extra
from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.finding import imported
from unlost.listener.source import socketio
from unlost.listener.source.feed.described import ProfileFeed
from unlost.listener.source.feed.hook import Feed
from unlost.listener.source.feed.loading import load, shipped
from unlost.listener.source.feed.shipped.discord import Discord
from unlost.listener.source.feed.shipped.twitch import Twitch

Shipped = type[Discord] | type[Twitch]
CLASSES: Mapping[str, Shipped] = {"discord": Discord, "twitch": Twitch}
"""Shipped feeds that are Python classes."""
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def names() -> list[str]:
    """Return the names of all shipped feeds."""
    return sorted([*shipped(), *CLASSES])


def feed_of(
    item: str, environment: Mapping[str, str] = os.environ, *, max_bytes: int = 1024 * 1024
) -> tuple[str, Feed]:
    """Return the name of a feed's cursor, and the feed; ``Misconfigured`` lists all mistakes."""
    if item in CLASSES:
        return item, CLASSES[item](environment)
    if item.startswith(socketio.SCHEMES):
        return _socketio(item, max_bytes)
    if (found := class_of(item)) is not None:
        return item, _made(item, found)
    if item not in shipped() and not item.endswith(".toml"):
        raise Misconfigured(
            f"SOURCE={item}: no shipped feed has this name; a profile is a file.toml, a class is package.module:Class. "
            f"Shipped: {', '.join(names())}"
        )
    loaded = load(item if item in shipped() else str(Path(item)), environment)
    return loaded.name, ProfileFeed(loaded, max_bytes=max_bytes)


def _socketio(item: str, max_bytes: int) -> tuple[str, Feed]:
    with extra("socketio", item):
        from unlost.listener.source.socketio.address import address_of
        from unlost.listener.source.socketio.feed import SocketIOFeed
    address = address_of(item)
    return address.name, SocketIOFeed(address, max_bytes=max_bytes)


def class_of(item: str) -> type[Feed] | None:
    """Return the class that an item of SOURCE names; None if it names a profile."""
    if item in CLASSES:
        return CLASSES[item]
    if not _CLASS.fullmatch(item):
        return None
    target = imported(item, "SOURCE")
    if not (isinstance(target, type) and issubclass(target, Feed)):
        raise Misconfigured(f"SOURCE={item}: it must be a class that inherits from unlost.feeds.Feed")
    return target


def _made(item: str, target: Callable[[], Feed]) -> Feed:
    try:
        return target()
    except Misconfigured:
        raise
    except Exception as error:
        raise Misconfigured(f"SOURCE={item}: it cannot be made: {type(error).__name__}: {error}") from error
