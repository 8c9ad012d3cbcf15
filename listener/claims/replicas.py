"""Claims in a further place: won there as well as in the first one, or replicated there while they are held.

Claims that another listener owns in PostgreSQL are lost here. Claims that another owns in Redis delay the move.
"""

from collections.abc import Sequence

from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.claims.leases import Leases
from unlost.listener.claims.quorum import Place
from unlost.listener.core.claim import Answer, ClaimRequest, Dead, Done, Verdict, Won


class Replicas:
    """Holds claims in a further place. Only called under the manager's lock."""

    def __init__(self, backends: ClaimBackends, leases: Leases) -> None:
        self._backends = backends
        self._leases = leases

    async def claim(
        self,
        place: Place,
        first: Place,
        requests: Sequence[ClaimRequest],
        answers: list[Answer],
        *,
        take_over: int,
        revive: bool,
    ) -> None:
        """Claim here too what was won in the first place. If that fails, settle or release it there."""
        won = [i for i, answer in enumerate(answers) if isinstance(answer, Won)]
        if not won:
            return
        claiming = self._backends.at(place).claim([requests[i] for i in won], take_over=take_over, revive=revive)
        refused: list[str] = []
        settled: dict[Verdict, list[ClaimRequest]] = {"done": [], "dead": []}
        for i, answer in zip(won, await self._backends.call(place, claiming), strict=True):
            answers[i] = _both(answers[i], answer)
            if isinstance(answer, Done | Dead) and answer.same:
                settled["done" if isinstance(answer, Done) else "dead"].append(requests[i])
            elif not isinstance(answer, Won):
                refused.append(requests[i].event_id)
        for verdict, those in settled.items():
            if those:
                await self._backends.call(first, self._backends.at(first).settle(those, verdict))
        if refused:
            await self._backends.call(first, self._backends.at(first).release(refused))

    async def hold(self, place: Place) -> bool:
        """Replicate all held claims here. Claims that others own are lost in PostgreSQL; in Redis the move waits."""
        refused = await self._leases.replicate(place)
        if place == self._backends.postgres:
            claims = self._leases.these([request.event_id for request in refused])
            self._leases.lose([request.event_id for request in refused])
            await self._leases.give_back(claims)  # the owner in PostgreSQL need not wait for it in Redis
            return True
        return not refused or await self._all_settled(place, refused)

    async def _all_settled(self, place: Place, requests: Sequence[ClaimRequest]) -> bool:
        """Lose claims whose events are settled, since this process was frozen; return whether all of them are.

        The move waits only for claims that a peer holds.
        """
        answers = await self._backends.call(place, self._backends.at(place).claim(requests, take_over=0))
        settled = [
            request.event_id
            for request, answer in zip(requests, answers, strict=True)
            if isinstance(answer, Done | Dead)
        ]
        self._leases.lose(settled)
        return len(settled) == len(requests)


def _both(earlier: Answer, answer: Answer) -> Answer:
    """Return the answer of two places: the further place's, with the largest counts of both."""
    if not (isinstance(earlier, Won) and isinstance(answer, Won)):
        return answer
    return Won(
        max(earlier.epoch, answer.epoch),
        max(earlier.takeovers, answer.takeovers),
        max(earlier.alone, answer.alone),
    )
