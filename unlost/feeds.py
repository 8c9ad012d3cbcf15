"""The public interface for feeds: ``SOURCE=package.module:Class`` names a class that inherits from ``Feed``."""

from unlost.listener.source.feed.calls import call
from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Beat,
    Feed,
    FeedEvent,
    FeedStopped,
    FetchedInPart,
    Fetching,
    Missed,
    NewConnection,
    NotFetchable,
    Numbered,
    Opening,
    Receipt,
    Refused,
    Send,
    Stop,
)

__all__ = [
    "Action",
    "Again",
    "Beat",
    "Feed",
    "FeedEvent",
    "FeedStopped",
    "FetchedInPart",
    "Fetching",
    "Missed",
    "NewConnection",
    "NotFetchable",
    "Numbered",
    "Opening",
    "Receipt",
    "Refused",
    "Send",
    "Stop",
    "call",
]
