"""Facts about pauses that people or failures began, and about the notifications of people."""

from unlost.listener.core.fact import Fact
from unlost.listener.core.pause import Paused


class NotificationEnded(Fact, frozen=True):
    """People were notified of something; or, with a reason, that was given up."""

    key: str
    target: str
    why: str


class PauseBegan(Fact, frozen=True):
    """A person paused this listener, or a route of its handler."""

    kind: Paused
    name: str
    by: str
    why: str


class PauseEnded(Fact, frozen=True):
    """A person ended a pause."""

    kind: Paused
    name: str


class RoutePaused(Fact, frozen=True):
    """Nearly every attempt of this route fails in the same way. Its events wait, and no attempt is counted."""

    route: str
    why: str


class RouteResumed(Fact, frozen=True):
    """An attempt of this route has succeeded, and its events flow again."""

    route: str
    seconds: float
