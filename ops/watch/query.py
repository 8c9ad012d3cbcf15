"""Queries every part of a system for its state. A part that does not answer in time is shown as such.

Queries run only when somebody looks, and never twice at the same time.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec

from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.audits import last_audit
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.reports import Reports
from unlost.ops.kit.access.settings import ClientOptions
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.tls import tls_failure
from unlost.ops.watch.figures import Reading, reading
from unlost.ops.watch.letters import MOST_KINDS, LetterFiles
from unlost.ops.watch.picture import (
    DatabaseState,
    FailureGroup,
    LetterFile,
    Listener,
    Mark,
    Picture,
    Producer,
    listener_of,
    ordinal,
    producer_of,
)
from unlost.ops.watch.targets import WatchTargets
from unlost.ops.watch.verdict import Past, Verdict, problems_of, remembered, verdict

PATIENCE = 1.5
FRESH = 0.8
STRANGE = "it answers, but not as one of ours"
NEEDS_TOKEN = "it says nothing without a token that may read; set UNLOST_TOKEN"  # noqa: S105  a sentence
MOST_COUNTED = 200_000
"""So many rows are counted exactly, in some hundredths of a second. More are estimated."""

Answer = tuple[dict[str, Any], Reading | str]
"""Health, and metrics or why there are none."""


class Watch:
    """Looks at a system, and remembers the previous readings to compute rates."""

    def __init__(self, targets: WatchTargets, pool: Database | None, options: ClientOptions | None = None) -> None:
        """``options``: what listeners and producer require of a client."""
        self._targets = targets
        self._pool = pool
        self._client = httpx.AsyncClient(
            timeout=PATIENCE, trust_env=False, **(options or ClientOptions(headers={}, verify=True))
        )
        self._letter_files = LetterFiles(targets.letters)
        self._before: dict[str, Reading] = {}
        self._names: dict[str, str] = {}
        self._were_apart = False
        self._moved: tuple[int, float] = (-1, time.monotonic())
        self._past = Past()
        self._failed_at: float | None = None
        self._unmeasured: set[str] = set()
        self._turn = asyncio.Lock()
        self._last: tuple[float, Picture, Verdict] | None = None

    async def close(self) -> None:
        """Close the connections to listeners and producer."""
        await self._client.aclose()

    async def look(self) -> tuple[Picture, Verdict]:
        """Return a picture that is less than a second old, and the verdict on it."""
        async with self._turn:
            if self._last is None or time.monotonic() - self._last[0] >= FRESH:
                picture = await self._look()
                self._past = remembered(self._past, picture, problems_of(picture))
                self._last = (time.monotonic(), picture, verdict(picture, self._past))
            return self._last[1:]

    async def _look(self) -> Picture:
        targets = self._targets
        urls = [*targets.listeners, *([targets.producer] if targets.producer else [])]
        database, letters, answers = await asyncio.gather(
            self._query_database(),
            asyncio.to_thread(self._letter_files.now),
            asyncio.gather(*(self._query(url) for url in urls)),
        )
        answer_of = dict(zip(urls, answers, strict=True))
        producer = self._producer(targets.producer, answer_of[targets.producer]) if targets.producer else None
        newest = producer.newest if producer else None
        picture = Picture(
            at=time.time(),
            listeners=tuple(self._listener(url, answer_of[url], newest) for url in targets.listeners),
            producer=producer,
            database=self._since_it_failed(database),
            letter_files=_letters(database, letters),
        )
        for url, answer in answer_of.items():
            if not isinstance(answer, str) and isinstance(answer[1], Reading):
                self._before[url] = answer[1]
        return self._with_stall(self._with_redis(named(picture)))

    def _listener(self, url: str, answer: Answer | str, newest: int | None) -> Listener:
        if isinstance(answer, str):
            return Listener(url=masked(url), name=self._names.get(url, host_and_port(url)), error=answer)
        health, figures = answer
        now = figures if isinstance(figures, Reading) else Reading(time.monotonic())
        try:
            listener = listener_of(masked(url), health, self._before.get(url, now), now, newest)
        except (ValueError, TypeError, AttributeError):
            return Listener(url=masked(url), name=self._names.get(url, host_and_port(url)), error=STRANGE)
        self._names[url] = listener.name
        if isinstance(figures, str):
            again = url in self._unmeasured
            self._unmeasured.add(url)
            return msgspec.structs.replace(listener, unmeasured=figures if again else "")
        self._unmeasured.discard(url)
        return listener

    def _producer(self, url: str, answer: Answer | str) -> Producer:
        if isinstance(answer, str):
            return Producer(url=masked(url), error=answer)
        now = answer[1] if isinstance(answer[1], Reading) else Reading(time.monotonic())
        try:
            return producer_of(masked(url), answer[0], self._before.get(url, now), now)
        except (ValueError, TypeError, AttributeError):
            return Producer(url=masked(url), error=STRANGE)

    def _since_it_failed(self, database: DatabaseState | None) -> DatabaseState | None:
        if database is None:
            return None
        now = time.monotonic()
        if database.error:
            self._failed_at = now
        return msgspec.structs.replace(database, back_for=None if self._failed_at is None else now - self._failed_at)

    def _with_redis(self, picture: Picture) -> Picture:
        """Mark the system as split between Redis databases only if the previous picture was split too.

        Listeners notice a restarted Redis up to a second apart, so a single split picture is no problem.
        """
        before, self._were_apart = self._were_apart, len(picture.redis_places) > 1
        return msgspec.structs.replace(picture, apart=before and self._were_apart)

    def _with_stall(self, picture: Picture) -> Picture:
        """Add how long nothing has moved although events waited."""
        places = [place for one in picture.listeners if (place := ordinal(one.cursor)) is not None]
        busy = any(one.rates.stored or one.rates.buried or one.rates.failed for one in picture.listeners)
        place, now = max(places, default=-1), time.monotonic()
        if busy or place != self._moved[0] or not picture.behind:
            self._moved = (place, now)
        return msgspec.structs.replace(picture, stalled=now - self._moved[1])

    async def _query(self, url: str) -> Answer | str:
        """Return health and metrics of one process, or why there is no health."""
        health, page = await asyncio.gather(self._get(f"{url}/health"), self._get(f"{url}/metrics"))
        if isinstance(health, str):
            return health
        try:
            body: object = health.json()
        except ValueError:
            body = None
        if not isinstance(body, Mapping):
            return STRANGE
        if "instance" not in body and "live" in body:
            return NEEDS_TOKEN
        return dict(body), page if isinstance(page, str) else _figures(page)

    async def _get(self, url: str) -> httpx.Response | str:
        """Return the response, or why there is none. The limit is for the whole response, however slowly it comes."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._client.get(url)
        except (httpx.TimeoutException, TimeoutError):
            return f"no answer within {PATIENCE:g} s"
        except httpx.ConnectError as error:
            return tls_failure(error, ca="UNLOST_CA", cert="UNLOST_CERT") or "nobody listens there"
        except (httpx.HTTPError, OSError) as error:  # a failure of TLS after the handshake is an OSError
            return tls_failure(error, ca="UNLOST_CA", cert="UNLOST_CERT") or masked(str(error)) or type(error).__name__

    async def _query_database(self) -> DatabaseState | None:
        if self._pool is None:
            return None
        started = time.monotonic()
        try:
            async with self._pool.acquire("looking at the system") as connection:
                reports = Reports(connection, self._pool.group)
                rows = await reports.how_many(MOST_COUNTED)
                cursors = await reports.cursors()
                members = await reports.members()
                letters = await _fleet(reports)
                audit = await last_audit(connection, self._pool.group)
        except (Transient, Permanent, Misconfigured) as error:
            return DatabaseState(error=_why(error))
        marks = {one.instance_id: Mark(one.seen_at, one.starts, one.alive) for one in members}
        return DatabaseState(
            milliseconds=(time.monotonic() - started) * 1000, rows=rows, estimated=rows >= MOST_COUNTED,
            settled_up_to=cursors[0] if cursors else None, listeners_seen=marks,
            letters=letters, audit=audit,
        )  # fmt: skip


def _letters(database: DatabaseState | None, files: Sequence[LetterFile]) -> tuple[LetterFile, ...]:
    """The fleet's list, with what is wrong with files; without the list, the files."""
    if database is None or database.letters is None:
        return tuple(files)
    wrong = (LetterFile(path=one.path, error=one.error, damaged=one.damaged) for one in files)
    return (database.letters, *(one for one in wrong if one.error or one.damaged))


async def _fleet(reports: Reports) -> LetterFile | None:
    try:
        sums = await reports.letter_sums()
        kinds = await reports.letter_kinds(MOST_KINDS)
    except asyncpg.UndefinedTableError:
        return None  # the group's tables are of an earlier version: its listeners list nothing
    by_state = {one: sums[one] for one in ("open", "failed", "resolved", "archived", "quarantined")}
    return LetterFile(
        path="the fleet's list", fleet=True, letters=sum(by_state.values()),
        by_state={name: number for name, number in by_state.items() if number},
        waiting=sums["open"] + sums["failed"], oldest_waiting_at=sums["oldest_at"], healing=sums["healing"],
        next_try_at=sums["next_try_at"], kinds=tuple(FailureGroup(*one) for one in kinds),
    )  # fmt: skip


def named(picture: Picture) -> Picture:
    """Name the one listener that has never answered, if PostgreSQL knows exactly one listener that is missing here."""
    away = [one for one in picture.listeners if one.error and one.name == host_and_port(one.url)]
    listeners_seen = picture.database.listeners_seen if picture.database else {}
    left = listeners_seen.keys() - {one.name for one in picture.listeners}
    if len(away) != 1 or len(left) != 1:
        return picture
    (name,) = left
    known = tuple(msgspec.structs.replace(one, name=name) if one is away[0] else one for one in picture.listeners)
    return msgspec.structs.replace(picture, listeners=known)


def _figures(page: httpx.Response) -> Reading | str:
    if page.is_error:
        return f"HTTP {page.status_code}"
    try:
        return reading(page.text, time.monotonic())
    except ValueError:
        return "its answer is not in the format of metrics"


def _why(error: Exception) -> str:
    """Why PostgreSQL did not answer, in the same words as for the other parts."""
    match error.__cause__:
        case ConnectionRefusedError():
            return "nobody listens there"
        case TimeoutError():
            return "no answer in time"
        case None:
            return masked(str(error))
        case cause:
            return str(cause).partition("\n")[0] or type(cause).__name__


def host_and_port(url: str) -> str:
    """Host and port of an address, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]
