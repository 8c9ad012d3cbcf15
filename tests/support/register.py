"""The register of dead letters, and the letters of an instance, without servers and files."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.ports.dead_letters import Burial, Standing


class FakeRegister:
    """For ``LetterRegister``: refuses each batch that contains one of ``refused``, and answers the others as given."""

    def __init__(self, refused: set[str], *, later: Collection[str] = (), **standings: Standing) -> None:
        """``later``: those that are refused once a batch was entered."""
        self._refused = refused
        self._standings = standings
        self._later = later
        self.calls: list[str] = []
        self.entered: list[str] = []
        self.fails = 0

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        await asyncio.sleep(0)
        ids = "".join(sorted(one.claim_id for one in burials))
        if not ids:
            return []
        self.calls.append(ids)
        if self.fails:
            self.fails -= 1
            raise Transient("away")
        if self._refused & {*ids}:
            raise Permanent("it is refused")
        self.entered.append(ids)
        self._refused = {*self._refused, *self._later}
        return [self._standings.get(one.claim_id, "buried") for one in burials]

    async def loss(self, after: str) -> None:
        return None


class FakeLetters:
    """For ``Letters``: has none that wait, and records what is resolved."""

    def __init__(self) -> None:
        self.resolved: list[tuple[str, str]] = []

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        return
        yield

    async def checked(self) -> str:
        return ""

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        self.resolved += [(letter_id, why) for letter_id in letter_ids]
        return letter_ids
