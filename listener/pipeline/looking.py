"""Looking: what peers have settled ends here, after a glance. What they have not is read, and asked for."""

from listener.claims.desk import Desk
from listener.claims.port import Sight
from listener.errors import Transient
from listener.facts import BatchDone, Facts
from listener.pipeline.intake import Clocks, Intake
from listener.pipeline.policy import Policy
from listener.pipeline.turns import Turns


class Looking:
    """Takes glances from the turns, once it is time."""

    def __init__(
        self, *, turns: Turns, desk: Desk, intake: Intake, policy: Policy, clocks: Clocks, facts: Facts
    ) -> None:
        self._turns = turns
        self._desk = desk
        self._intake = intake
        self._policy = policy
        self._clocks = clocks
        self._facts = facts

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            glances = await self._turns.due(self._policy.batch)
            started = self._clocks.monotonic()
            sights: list[Sight]
            try:
                sights = await self._desk.look([glance.ask for glance in glances])
                self._turns.saw(sights)
            except Transient:
                sights = ["free"] * len(glances)
            seen = list(zip(glances, sights, strict=True))
            self._intake.end_unread([glance for glance, sight in seen if sight == "settled"])
            self._intake.read([glance for glance, sight in seen if sight != "settled"])
            self._facts(BatchDone("look", len(glances), self._clocks.monotonic() - started))
