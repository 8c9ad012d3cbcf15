"""Opens a journal on a server that may not answer yet."""

import time
from collections.abc import Callable

import structlog

from unlost.producer.journal.port import HistoryLost, JournalError

START_ATTEMPTS = 10
START_DELAY = 3.0


def open_patiently(
    open_once: Callable[[], object],
    attempts: int,
    delay: float,
    *,
    final: tuple[type[JournalError], ...] = (HistoryLost,),
) -> None:
    """Try until it opens, or raise the last error. Errors of ``final`` are raised at once."""
    for attempt in range(1, attempts + 1):
        try:
            open_once()
        except final:
            raise
        except JournalError as error:
            if attempt == attempts:
                raise
            structlog.get_logger().warning("journal_unreachable", why=str(error), attempt=attempt, of=attempts)
            time.sleep(delay)
        else:
            return
