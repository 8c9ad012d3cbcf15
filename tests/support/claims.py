"""The claim manager with its leases, and a place of claims, without a server."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from unlost.listener.core.claim import Answer, ClaimRequest, HeldClaim, Verdict, Won
from unlost.listener.core.errors import Transient
from unlost.listener.core.store_mark import Remembered, StoreMark


class FakeManager:
    """For ``ClaimManager`` and ``Leases``: all is held until the test calls it ``lost``. Records calls."""

    open = True
    name = ""

    def __init__(
        self, *held: str, answer: Callable[[int], Answer] = lambda _: Won(1, 0), log: list[object] | None = None
    ) -> None:
        self.held = set(held)
        self.lost: set[str] = set()
        self.gone: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.unanswered = 0
        """How many calls of ``confirmed`` get no answer. Nothing is known to be lost before there is one."""
        self.settled: Collection[ClaimRequest] | None = ()
        """Segments that peers announced as settled. None: no place answers."""
        self.announced: asyncio.Queue[list[str]] = asyncio.Queue()
        self.claimed = asyncio.Event()
        self.looked = 0
        self.parted: list[str] = []
        self.log = [] if log is None else log
        self.leases = self.known_store = self
        self._answer = answer

    def __len__(self) -> int:
        return len(self.held)

    def share(self) -> tuple[int, int]:
        return 0, 1

    async def wait_open(self) -> None:
        """Always open."""

    async def wait_below(self, limit: Callable[[], int]) -> None:
        if len(self.held) >= limit():
            await asyncio.Event().wait()

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        answer = self._answer(take_over)
        if isinstance(answer, Won):
            self.held |= {request.event_id for request in requests}
        self.log.append(f"claim {' '.join(request.event_id for request in requests)}, take over {take_over}")
        self.claimed.set()
        return [answer for _ in requests]

    async def settle(self, event_ids: Sequence[str], verdict: Verdict) -> bool:
        self.log.append(f"settle {' '.join(event_ids)}, {verdict}")
        return True

    async def release(self, event_ids: Sequence[str]) -> None:
        self.log.append(f"release {' '.join(event_ids)}")
        self.drop(event_ids)

    def drop(self, event_ids: Sequence[str]) -> None:
        self.held -= set(event_ids)

    async def confirmed(self, event_ids: Sequence[str]) -> bool:
        self.unanswered -= 1
        return self.unanswered < 0

    def is_held(self, event_id: str) -> bool:
        return self.unanswered >= 0 or event_id not in self.lost

    def may_run(self, event_id: str) -> bool:
        return True

    def look_again(self) -> None:
        self.looked += 1

    async def part(self, event_id: str) -> int:
        self.parted.append(event_id)
        return 1

    async def wait_gone(self, event_id: str) -> None:
        await self.gone[event_id].wait()

    async def look(self, names: Sequence[ClaimRequest]) -> list[bool]:
        if self.settled is None:
            raise Transient("no place answers")
        return [name in self.settled for name in names]

    async def announce_settled(self, names: Sequence[ClaimRequest]) -> None:
        self.announced.put_nowait([name.event_id for name in names])
        await asyncio.Event().wait()  # Redis does not answer


class FakePlace:
    """For ``Claims``: grants all but ``foreign`` claims, and does not answer while ``away``. Records each call."""

    def __init__(self, name: str = "place:1", *, takes: float = 0.0) -> None:
        self.name = name
        self.now = 0.0
        self.foreign: set[str] = set()
        self.away = False
        self.calls: list[tuple[object, ...]] = []
        self._takes = takes

    def _call(self, what: str, *more: object) -> None:
        """Each call takes so many seconds of the place's own clock."""
        self.now += self._takes
        self.calls.append((what, *more))
        if self.away:
            raise Transient("away")

    async def place(self) -> str:
        return self.name

    def file_under(self, store: str) -> None:
        """There is only one store."""

    async def remember(self, store: StoreMark) -> Remembered | None:
        return Remembered(store.version, store.name)

    async def claim(self, requests: Sequence[ClaimRequest], **_: object) -> list[Won]:
        self._call("claim", *requests)
        return [Won(1, 0) for _ in requests]

    async def settle(self, requests: Sequence[ClaimRequest], verdict: Verdict) -> list[bool]:
        self._call(verdict, *requests)
        return [True for _ in requests]

    async def release(self, event_ids: Sequence[str]) -> None:
        self._call("release", *event_ids)

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        self._call("renew", *held_claims)
        return [held.event_id not in self.foreign for held in held_claims]

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        self._call("replicate", *held_claims)
        return [held.event_id not in self.foreign for held in held_claims]


class FakeBackends:
    """For ``ClaimBackends``: Redis says that the store had come so far; ``None``: it does not answer."""

    redis: str | None = None
    redis_is_away = False

    def __init__(self, found: tuple[str, int | None] | None = None, name: str = "postgres:1") -> None:
        self.found = found
        self.name = name
        self.lost = asyncio.Event()
        self.filed: list[str] = []
        self.looked_for: list[StoreMark] = []

    async def look_for_redis(self, mark: StoreMark) -> tuple[str, Remembered | None] | None:
        self.looked_for.append(mark)
        if self.found is None:
            return None
        place, version = self.found
        return place, None if version is None else Remembered(version, self.name)

    def file_under(self, store: str) -> None:
        self.filed.append(store)
