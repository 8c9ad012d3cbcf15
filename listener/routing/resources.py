"""The resources of an application: what its lifespan yields, entered once and left once, in a task of its own.

The lifespan has its own task because a task group or a timeout within must be left by the task that entered it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from unlost.listener.core.errors import Misconfigured, Transient

LOG = logging.getLogger("unlost.lifespan")
CLOSE_SECONDS = 10.0
"""How long a lifespan may take to clean up. Then it is cancelled."""

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]


class LifespanFailed(Exception):
    """A lifespan raised something that would end the process. Only the lifespan has failed."""


class Resources:
    """Enters a lifespan with ``open`` and leaves it with ``close``. ``ended`` is set if it ends by itself before."""

    def __init__(self, lifespan: Lifespan | None) -> None:
        self._lifespan = lifespan
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def open(self) -> Mapping[str, Any]:
        """Return the resources. ``Transient``: the lifespan failed. ``Misconfigured``: it yields no mapping."""
        if self._lifespan is None:
            return {}
        yielded: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._closing.clear()
        self._task = asyncio.create_task(self._hold(self._lifespan, yielded), name="lifespan")
        try:
            await asyncio.wait((yielded, self._task), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.close()
            raise
        if not yielded.done():
            task, self._task = self._task, None
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Misconfigured):
                raise error
            raise Transient(f"the lifespan failed: {type(error).__name__}: {error}") from error
        resources = yielded.result()
        if resources is None:
            return {}
        if not isinstance(resources, Mapping) or not all(isinstance(name, str) for name in resources):
            await self.close()
            raise Misconfigured(
                f"the lifespan yields a mapping from names to resources, not {type(resources).__qualname__}"
            )
        return resources

    async def _hold(self, lifespan: Lifespan, yielded: "asyncio.Future[Any]") -> None:
        try:
            async with lifespan() as resources:
                yielded.set_result(resources)
                await self._closing.wait()
        except (SystemExit, KeyboardInterrupt) as error:  # in a task, they would leave the event loop
            raise LifespanFailed(f"{type(error).__name__}: {error}") from error
        finally:
            if yielded.done() and not self._closing.is_set():
                self.ended.set()

    async def close(self) -> None:
        """Leave the lifespan. Errors are logged, since nothing else can be done about them."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        await asyncio.wait((task,), timeout=CLOSE_SECONDS)
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait((task,), timeout=1.0)
            LOG.error("the lifespan was not left: it took longer than %g s", CLOSE_SECONDS)
        elif not task.cancelled() and (error := task.exception()):
            LOG.error("the lifespan failed while it was left: %s: %s", type(error).__name__, error)

    def why_ended(self) -> str:
        """Return why the lifespan ended by itself."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or (error := task.exception()) is None:
            return "the lifespan ended by itself"
        return f"the lifespan ended by itself: {type(error).__name__}: {error}"
