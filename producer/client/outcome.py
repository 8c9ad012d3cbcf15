"""The outcomes of a publication, as a client sees them."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Status = Literal["accepted", "redelivered", "duplicate", "conflict", "invalid", "too_large"]
REFUSALS: frozenset[str] = frozenset(("conflict", "invalid", "too_large"))


class Published(msgspec.Struct, frozen=True):
    """The producer's answer to one event.

    ``accepted``: on its disk. ``duplicate``: it was accepted before, with the same content. If a retry is answered with
    ``duplicate``, an earlier attempt may have been accepted, so the status is ``accepted``. Any other status has its
    reason in ``error``, and the event is not in the journal with this content.
    """

    event_id: str
    status: Status
    cursor: str | None = None
    error: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether this event can never be published as it is."""
        return self.status in REFUSALS


class PublishError(Exception):
    """The base class of all errors of a publisher."""


class PublishRefused(PublishError):
    """The producer refuses this event, now and always. ``published`` has the reason."""

    def __init__(self, published: Published) -> None:
        super().__init__(f"{published.event_id}: {published.status}: {published.error or 'no reason was given'}")
        self.published = published


class PublishConflict(PublishRefused):
    """An event with this id and other content was published before."""


class _WithoutOutcome(PublishError):
    """A call that ended before each of its events had an outcome."""

    def __init__(self, reason: str, published: tuple[Published, ...] = (), event_ids: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.published = published
        """The outcomes that are known, of a batch."""
        self.event_ids = event_ids
        """The ids of all other events, also of those whose ids were made by the publisher."""
        self.left: tuple[Mapping[str, Any], ...] = ()
        """Of a stream alone: each event that was taken from it and has no outcome, with its id."""


class PublishRejected(_WithoutOutcome):
    """The request was refused, whatever events are in it: wrong address, missing authorization, another server.

    None of ``event_ids`` is published by this call. If an earlier attempt may have published some of them, the error is
    ``PublishInDoubt``.
    """


class PublishUnavailable(_WithoutOutcome):
    """The producer could not be reached in time. None of ``event_ids`` was published by this call."""


class PublishInDoubt(PublishUnavailable):
    """An answer was lost, and no later one settled it: ``event_ids`` may be published or not.

    Publish them again under the same ids.
    """


def refusal(published: Published) -> PublishRefused:
    """Return the error for a refused event."""
    return (PublishConflict if published.status == "conflict" else PublishRefused)(published)
