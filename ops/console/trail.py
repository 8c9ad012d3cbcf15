"""The console's trail: each change is written before its answer; in a file if PostgreSQL does not answer."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.requests import Request

from unlost.dlq.record.trail import Act, BrokenTrail, trail_beside, unwritten
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.trail import TableTrail

SHOWN = 200


class ConsoleTrail:
    """Writes and shows it."""

    def __init__(self, database: Database, files: Callable[[], Sequence[Path]]) -> None:
        self._table = TableTrail(database)
        self._files = files

    async def note(self, request: Request, by: str, what: str, about: str, why: str, result: str) -> None:
        """Write what somebody did."""
        client = request.client.host if request.client else "unknown"
        act = Act(by, f"console, from {client}", what, about, why, result)
        structlog.get_logger().info("trail", **msgspec.structs.asdict(act))
        try:
            await self._merge()
            await self._table.append(act)
        except (Transient, Permanent, Misconfigured) as error:
            await asyncio.to_thread(self._into_file, act, error)

    async def _merge(self) -> None:
        """Take over what was written beside a file while PostgreSQL was away."""
        log = structlog.get_logger()
        files = await asyncio.to_thread(self._files)
        for beside in (trail_beside(one) for one in files[:1]):
            try:
                if beside.exists() and (count := await self._table.merge(beside)):
                    log.info("trail_merged", file=str(beside), entries=count)
            except (BrokenTrail, OSError) as error:
                log.error("trail_unmerged", why=str(error))  # noqa: TRY400  a person must look at the file

    def _into_file(self, act: Act, why: Exception) -> None:
        log, files = structlog.get_logger(), self._files()
        if failed := unwritten(files[0], act) if files else "there is no file of letters":
            log.error("trail_unwritten", why=str(why), file=failed)
        else:
            log.warning("trail_in_a_file", why=str(why))

    async def latest(self) -> list[dict[str, Any]]:
        """The latest entries, newest first."""
        found: list[dict[str, Any]] = msgspec.to_builtins(await self._table.latest(SHOWN))
        return found
