"""Everything that receives the facts of one listener process."""

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry

from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.shipping import LettersChanged
from unlost.listener.core.facts import Facts, broadcast
from unlost.listener.observe.changes import Changes
from unlost.listener.observe.differing import Differing
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.observe.metrics import ListenerMetrics
from unlost.listener.observe.progress import Progress
from unlost.listener.observe.recent import Recent


class Observers:
    """Metrics, logs, the recent past, and what wakes a part of the process. ``facts`` passes a fact to all of them."""

    def __init__(
        self, settings: ListenerSettings, registry: CollectorRegistry, log: Any, others: Iterable[Facts | None]
    ) -> None:
        self.metrics = ListenerMetrics(registry)
        self.recent = Recent(time.time)
        self.changes = Changes(time.time, settings.redactor())
        self.progress = Progress(time.monotonic)
        self.letters_changed = LettersChanged()
        self.differing = Differing()
        self.facts = broadcast(
            self.metrics,
            ListenerLogs(debug=settings.log_level == "debug", log=log, redactor=settings.redactor()),
            self.recent,
            self.changes,
            self.progress,
            self.letters_changed,
            self.differing,
            *filter(None, others),
        )
