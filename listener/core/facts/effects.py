"""Facts about effects of handlers."""

from unlost.listener.core.fact import Fact


class EffectsRecorded(Fact, frozen=True):
    """So many effects were committed with their rows."""

    count: int


class EffectDelivered(Fact, frozen=True):
    """A receiver took this effect. ``seconds``: how long the delivery took."""

    event_id: str
    key: str
    seconds: float


class EffectFailed(Fact, frozen=True):
    """A delivery failed, and another follows. ``counts``: it is one of its attempts, as its host does not pause."""

    event_id: str
    key: str
    host: str
    why: str
    counts: bool


class EffectBuried(Fact, frozen=True):
    """This effect is a dead letter, on disk. Its event is a row."""

    event_id: str
    key: str
    error_class: str
    message: str


class EffectHostPaused(Fact, frozen=True):
    """Nearly every delivery to this host fails in the same way. Its effects wait, and no attempt is counted."""

    host: str
    why: str


class EffectHostResumed(Fact, frozen=True):
    """This host takes effects again."""

    host: str
    seconds: float
