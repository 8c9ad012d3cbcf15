"""A listener inside another program: a daemon as a task, without a process of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from unlost.listener.app.daemon import ListenerDaemon
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.finding import handler_of
from unlost.listener.routing.router import Router
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry.health import Health
from unlost.ops.kit.telemetry.logs import make_printable, mask_passwords

LOGGER = "unlost"


class Embedded:
    """A listener that runs in this event loop."""

    def __init__(self, daemon: ListenerDaemon, task: "asyncio.Task[None]") -> None:
        self._daemon = daemon
        self._task = task

    @property
    def is_ready(self) -> bool:
        """Whether it can take new work. For a readiness probe of the program."""
        return not self._task.done() and self.health().is_ready

    @property
    def port(self) -> int:
        """The port of its HTTP endpoint."""
        return self._daemon.port

    def health(self) -> Health:
        """Return what its ``/health`` answers; ``whole()`` makes JSON of it."""
        return self._daemon.health()

    async def until_ended(self) -> None:
        """Wait until the listener ends by itself; raise what ended it. Leaving the context raises it too."""
        await asyncio.shield(self._task)


@asynccontextmanager
async def embedded(router: Router, given: Mapping[str, Any]) -> AsyncIterator[Embedded]:
    """Run a listener with this router as its handler, until the context is left. See ``App.running``."""
    try:
        settings = ListenerSettings.load(given)
    except UsageProblem as error:
        raise Misconfigured(*error.problems) from None
    daemon = ListenerDaemon(settings, find=lambda name: handler_of(name, router), log=_log(settings.log_level))
    task = asyncio.create_task(daemon.run(), name="unlost listener")
    working = asyncio.create_task(daemon.working.wait(), name="unlost listener starts")
    try:
        await asyncio.wait((task, working), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield Embedded(daemon, task)
    finally:
        working.cancel()
        if not task.done():
            daemon.stop()
        await task


def _log(level: str) -> Any:
    """Return a logger that passes each line, as one text, to the program's logging."""
    logger = logging.getLogger(LOGGER)
    return structlog.wrap_logger(
        logger,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            mask_passwords,
            make_printable,
            _as_text,
        ],
        context_class=dict,
        cache_logger_on_first_use=True,
    )


def _as_text(logger: object, method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ARG001
    what, exception = event.pop("event", ""), event.pop("exception", None)
    line = " ".join([str(what), *(f"{name}={value!r}" for name, value in event.items())])
    return f"{line}\n{exception}" if exception else line
