"""Reports the state of a drill to the console, so that dashboards can mark its start, its damage and its end.

A drill never fails because of its marks. If no console accepts them, that is reported once, and the drill continues.
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
    """The URL of a console and its token."""

    url: str
    token: str = field(default="", repr=False)

    def headers(self) -> dict[str, str]:
        """The headers that the console requires of requests that change something."""
        return {"x-unlost-console": "1", **({"authorization": f"Bearer {self.token}"} if self.token else {})}


class Marks:
    """The marks of one drill; ``failure`` says why the console did not accept them."""

    def __init__(self, drill: str, client: httpx.AsyncClient | None) -> None:
        self._drill = drill
        self._client = client
        self._state: State = "running"
        self.failure = ""

    async def put(self, state: State) -> None:
        """Report this state, now and at each renewal."""
        self._state = state
        await self._post()

    async def renew(self) -> None:
        """Renew the mark until cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            await self._post()

    async def _post(self) -> None:
        if self._client is None:
            return
        try:
            answer = await self._client.post("/api/drill", json={"drill": self._drill, "state": self._state})
            answer.raise_for_status()
            self.failure = ""
        except httpx.HTTPError as error:
            self.failure = f"the console at {self._client.base_url} took no marks: {error or type(error).__name__}"


@contextlib.asynccontextmanager
async def marks(drill: str, console: ConsoleAt | None) -> AsyncIterator[Marks]:
    """Keep marks while the block runs; without a console, they are not sent."""
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
