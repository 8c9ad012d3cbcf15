"""Feeds recorded frames to a profile or a class, and shows what became of them. Nothing is connected or stored."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unlost.listener.app.feeds import feed_of
from unlost.listener.source.feed.hook import Feed
from unlost.listener.source.feed.recording import messages_in
from unlost.listener.source.feed.trial import MessageResult, Trial


class TestFeed:
    """A feed under test: a shipped name, a profile's file, ``package.module:Class``, or an object."""

    __test__ = False  # for pytest: this is no test

    def __init__(self, feed: str | Feed, environment: Mapping[str, str] | None = None) -> None:
        self._trial = Trial(feed_of(feed, environment or {})[1] if isinstance(feed, str) else feed)

    def read(self, *frames: bytes | str) -> Sequence[MessageResult]:
        """Read frames as a connection would, and return what they became, in order."""
        return [one for frame in frames for one in self._trial.read(frame)]

    def read_all(self, frames: Iterable[bytes | str]) -> Sequence[MessageResult]:
        """Read many frames."""
        return self.read(*frames)

    def read_recording(self, path: Path | str) -> Sequence[MessageResult]:
        """Read the file of ``unlost source try --record``."""
        return self.read_all(messages_in(Path(path)))

    @property
    def counts(self) -> Counter[str]:
        """How many events, control messages, invalid events, answers and acknowledgements there were."""
        return self._trial.kinds

    @property
    def warnings(self) -> Sequence[str]:
        """The warnings that ``unlost source try`` would print."""
        return self._trial.warnings()
