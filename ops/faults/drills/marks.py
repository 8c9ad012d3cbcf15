"""Tells the console where a drill stands, so that dashboards can mark its start, its damage and its end.

A drill never fails for the sake of its marks: where no console takes them, that is said once, and the drill goes on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import httpx

RENEW_EVERY = 4.0
ANSWER_WITHIN = 2.0
State = Literal["running", "damaged", "ended"]


@dataclass(frozen=True, slots=True)
class ConsoleAt:
    """Where a console is, and its word."""

    url: str
    token: str = field(default="", repr=False)

    def headers(self) -> dict[str, str]:
        """What a request that changes something brings."""
        return {"x-unlost-console": "1", **({"authorization": f"Bearer {self.token}"} if self.token else {})}


class Marks:
    """The marks of one drill; ``failure`` says why they could not be left."""

    def __init__(self, drill: str, client: httpx.AsyncClient | None) -> None:
        self._drill = drill
        self._client = client
        self._state: State = "running"
        self.failure = ""

    async def put(self, state: State) -> None:
        """Tell where the drill stands, now and whenever the mark is renewed."""
        self._state = state
        await self._tell()

    async def renew(self) -> None:
        """Keep the mark alive, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            await self._tell()

    async def _tell(self) -> None:
        if self._client is None:
            return
        try:
            answer = await self._client.post("/api/drill", json={"drill": self._drill, "state": self._state})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.failure = f"the console at {self._client.base_url} took no marks: {error or type(error).__name__}"


@contextlib.asynccontextmanager
async def marks(drill: str, console: ConsoleAt | None) -> AsyncIterator[Marks]:
    """The marks of a drill that runs within the block; without a console they go nowhere."""
    if console is None:
        yield Marks(drill, None)
        return
    async with httpx.AsyncClient(
        base_url=console.url, headers=console.headers(), timeout=ANSWER_WITHIN, trust_env=False
    ) as client:
        left = Marks(drill, client)
        await left.put("running")
        renewing = asyncio.create_task(left.renew(), name="marks")
        try:
            yield left
        finally:
            renewing.cancel()
            await asyncio.shield(left.put("ended"))
