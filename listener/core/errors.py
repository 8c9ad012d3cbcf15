"""Errors, sorted by what to do next.

Transient: try again. Permanent: never try again, bury. Misconfigured: refuse to start. Every library's errors become
one of these where the library is called.
"""

from typing import Literal

import msgspec

from unlost.listener.core.shortened import shortened
from unlost.listener.core.tracebacks import traceback_of

ErrorClass = Literal["transient", "permanent"]
LONGEST_WAIT = 86_400.0
"""The longest pause between two attempts. Meanwhile the event stays in memory, and its claim is renewed."""


class UnlostError(Exception):
    """The base class of every error that Unlost raises itself."""


class Transient(UnlostError):
    """The same call may succeed later. ``sqlstate`` is set if PostgreSQL reported one."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Stopped(Transient):
    """The listener was stopped before it could settle an event."""


class Unavailable(Transient):
    """PostgreSQL cannot serve anybody now: it is shutting down, lacks room, or cannot get a lock."""


class NotPermitted(Unavailable):
    """PostgreSQL answers, but a right is missing that an administrator can give back."""


class Retry(Transient):
    """Raised by a handler: this attempt failed, and another follows after ``after`` seconds if one is left.

    Without ``after`` the pause is the usual one.
    """

    def __init__(self, why: str = "the handler asked for another attempt", *, after: float | None = None) -> None:
        super().__init__(why)
        if after is not None and not 0 <= after <= LONGEST_WAIT:  # also refuses NaN
            raise ValueError(f"Retry(after={after}): a pause lasts between 0 and {LONGEST_WAIT:,.0f} s")
        self.after = after


class Permanent(UnlostError):
    """The same call can never succeed."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Reject(Permanent):
    """Raised by a handler: never try this event again, bury it now."""


class InvalidEvent(Permanent):
    """A frame that is not a valid event. ``event_id`` is set if it could still be read."""

    def __init__(self, message: str, *, event_id: str | None = None) -> None:
        super().__init__(message)
        self.event_id = event_id


class InvalidPayload(Permanent):
    """A valid event whose payload does not fit the type that its route declares."""


class Unrepeatable(Permanent):
    """The attempt may have left effects that stand, so no other may follow, whatever else went wrong meanwhile."""


class Unaccounted(UnlostError):
    """An orderly stop left events that have neither a row nor a letter."""


class Misconfigured(UnlostError):
    """The process must not start. One sentence for each mistake."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failed attempt, as stored in a dead letter: when, at which stage, and why; for a handler also where."""

    at: float
    stage: Literal["receive", "claim", "handle", "store", "effect"]
    error_class: ErrorClass
    error_type: str
    message: str
    sqlstate: str | None = None
    traceback: str | None = None


MESSAGE_LIMIT = 2_000


def class_of(error: BaseException) -> ErrorClass:
    """Return the class of an error: everything that is not permanent may be tried again."""
    return "permanent" if isinstance(error, Permanent) else "transient"


def failure_of(
    error: BaseException, *, stage: Literal["receive", "claim", "handle", "store", "effect"], at: float
) -> Failure:
    """Describe ``error`` as an attempt that failed at ``stage`` at the epoch second ``at``.

    If ``error`` wraps what a handler raised, its ``origin`` is described.
    """
    return Failure(
        at=at,
        stage=stage,
        error_class=class_of(error),
        error_type=getattr(error, "error_type", type(error).__name__),
        message=shortened(str(error), MESSAGE_LIMIT),
        sqlstate=getattr(error, "sqlstate", None),
        traceback=traceback_of(getattr(error, "origin", error)) if stage == "handle" else None,
    )
