"""People are notified once of each happening, whichever listener saw it, until the receiver takes it."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.letters import letter
from tests.support.receiver import Receiver as Server
from tests.support.receiver import accept, receiving, status
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.trail import Act
from unlost.listener.app import notifying as module
from unlost.listener.app.notifying import Notifying
from unlost.listener.core.attempts import Backoff
from unlost.listener.core.facts import Fact, NotificationEnded
from unlost.listener.core.gap import Gap
from unlost.listener.core.targets import Targets
from unlost.listener.effects.hosts import secrets_of
from unlost.listener.effects.http import HttpChannel, HttpOptions
from unlost.listener.effects.templates import Receiver
from unlost.listener.pipeline.effect_delivery import EffectPolicy
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.gaps import PostgresGaps
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.notifications import PostgresNotifications
from unlost.listener.store.postgres.trail import TableTrail
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor

pytestmark = pytest.mark.database("migrated")

OLD, NEW = 1_700_000_000.0, 4_000_000_000.0
LEASE = EffectPolicy(timeout=300.0).lease
SECRETS = secrets_of("127.0.0.1=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    await PostgresNotifications(database).enter(["webhook"])
    yield database
    await database.close()


def notifying(database: Database, server: Server, facts: list[Fact], redactor: Redactor = UNMASKED) -> Notifying:
    hosts = Targets.of(f"http://127.0.0.1:{server.port}", "127.0.0.0/8")
    channel = HttpChannel(HttpOptions(hosts, 5.0, SECRETS))
    return Notifying(
        PostgresNotifications(database), channel, [Receiver("webhook", server.url)], lease=LEASE,
        group="unlost", console=None, redactor=redactor, facts=facts.append,
    )  # fmt: skip


async def listed(database: Database, name: str, *, message: str, at: float, heal_after: float | None = None) -> None:
    one = letter(name, message=message, at=at)
    await LetterTable(database, token="t").add("a", [Listed(one, encode(one), None, heal_after)])


async def sql(database: Database, statement: str) -> None:
    async with database.acquire("test") as connection:
        await connection.execute(statement)


async def kinds_after_a_look(database: Database) -> list[str]:
    async with receiving() as server:
        await notifying(database, server, []).look()
        return sorted(json.loads(call.body)["type"] for call in server.calls)


async def test_the_end_of_healing_is_said_once_a_day_and_also_of_letters_that_failed_long_ago(
    database: Database,
) -> None:
    for name in ("a", "b"):
        await listed(database, name, message="one", at=OLD, heal_after=60.0)
    assert await kinds_after_a_look(database) == ["letters.new_group"], "listed late, and new all the same"
    await sql(database, "UPDATE unlost.letters SET heal_at = NULL, status = 'failed', state_at = now() + interval '1h'")
    assert await kinds_after_a_look(database) == ["letters.healing_ended"]
    await sql(database, "UPDATE unlost.letters SET status = 'archived' WHERE event_id = 'a'")
    assert await kinds_after_a_look(database) == []
    await sql(database, "UPDATE unlost.letters SET status = 'failed', letter_id = 'x' || letter_id")
    await sql(database, "UPDATE unlost.letter_details SET letter_id = 'x' || letter_id")
    await sql(database, "UPDATE unlost.notifications SET key = key || 'yesterday' WHERE kind = 'letters.healing_ended'")
    assert await kinds_after_a_look(database) == [], "a day has not passed"
    await sql(database, "UPDATE unlost.notifications SET at = at - interval '25h' WHERE kind = 'letters.healing_ended'")
    assert await kinds_after_a_look(database) == ["letters.healing_ended"]


async def test_a_lease_is_longer_than_sending_may_take(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    leases: list[float] = []
    take = PostgresNotifications.take

    async def noted(self: PostgresNotifications, targets: list[str], most: int, lease: float) -> object:
        leases.append(lease)
        return await take(self, targets, most, lease)

    monkeypatch.setattr(PostgresNotifications, "take", noted)
    await kinds_after_a_look(database)
    assert leases == [LEASE]


async def test_each_happening_is_sent_once_by_several_listeners(database: Database) -> None:
    await listed(database, "old", message="one", at=OLD)
    await sql(database, "UPDATE unlost.letter_details SET shipped_at = shipped_at - interval '2 days'")
    await listed(database, "new", message="two", at=NEW)
    await listed(database, "healing", message="three", at=NEW, heal_after=60.0)
    await PostgresGaps(database, instance="a").record([Gap("g", "feed", "silence", None, None, 7, OLD, NEW)])
    await TableTrail(database).append(Act("ana", "unlost audit", "audit not clean", "all events", "", "2 missing"))
    await sql(database, "UPDATE unlost.letters SET heal_at = NULL WHERE event_id = 'healing'")
    facts: list[Fact] = []
    async with receiving() as server:
        await asyncio.gather(*(notifying(database, server, facts).look() for _ in range(3)))
        await notifying(database, server, facts).look()
        bodies = [json.loads(call.body) for call in server.calls]
        assert sorted(body["type"] for body in bodies) == [
            "audit.not_clean", "letters.healing_ended", "letters.new_group", "letters.new_group", "source.gap",
        ]  # fmt: skip
        assert {body["data"]["message"] for body in bodies if body["type"] == "letters.new_group"} == {"two", "three"}
        assert all(call.headers["webhook-signature"].startswith("v1,") for call in server.calls)
        assert len({call.headers["webhook-id"] for call in server.calls}) == 5
    assert len([fact for fact in facts if isinstance(fact, NotificationEnded) and not fact.why]) == 5


async def test_one_that_is_refused_for_a_while_comes_again_and_one_that_never_is_taken_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", Backoff.fixed(2, 0.0))
    await listed(database, "new", message="card 4111", at=NEW)
    facts: list[Fact] = []
    async with receiving(status(503), accept) as server:
        await notifying(database, server, facts, Redactor(["card"])).look()
        first, second = server.calls
    assert (
        first.headers["webhook-id"]
        == second.headers["webhook-id"]
        == f"unlost:group:{letter('x', message='card 4111').fingerprint}"
    )
    assert b"4111" not in first.body + second.body
    await listed(database, "other", message="slow", at=NEW)
    async with receiving(status(302)) as server:
        await notifying(database, server, facts).look()
        assert len(server.calls) == 1, "a redirect is not followed"
    assert isinstance(facts[-1], NotificationEnded)
    assert "HTTP 302" in facts[-1].why


async def test_one_notification_says_that_many_more_are_left_out(database: Database, database_url: str) -> None:
    for number in range(40):
        await listed(database, f"l{number}", message=f"failure {chr(97 + number % 26)}{chr(97 + number // 26)}", at=NEW)
    connection = await asyncpg.connect(database_url)
    async with receiving() as server:
        await notifying(database, server, []).look()
        kinds = [json.loads(call.body)["type"] for call in server.calls]
        assert (kinds.count("letters.new_group"), kinds.count("notifications.many")) == (30, 1)
        await notifying(database, server, []).look()
        assert len(server.calls) == 31
    assert await connection.fetchval("SELECT count(*) FROM unlost.notifications WHERE outcome = 'left out'") == 10
    await connection.close()
