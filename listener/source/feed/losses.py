"""Reasons why a feed is not read, for the reader. Pure."""

from unlost.listener.ports.source import Loss, SourceEnded

STOPPED_SECONDS = 600.0
"""The pause before a feed that refuses us is tried again."""


class EventsRefused(SourceEnded):
    """The source did not answer with events. ``status``: the HTTP status."""

    def __init__(self, loss: Loss, status: int) -> None:
        super().__init__(loss)
        self.status = status


def stopped(why: str) -> Loss:
    """Return a loss after which retrying soon is pointless."""
    return Loss(f"{why}; trying again soon is pointless (stop_on)", wait=STOPPED_SECONDS)


def failed_code(where: str, error: Exception) -> SourceEnded:
    """Return the loss for an error in a feed's own code."""
    return SourceEnded(Loss(f"the feed's {where} failed: {type(error).__name__}: {error}"))
