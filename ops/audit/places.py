"""The places that ``unlost audit`` and ``unlost event`` ask: settings, connections, and errors in one sentence."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import click
import httpx
from pydantic import Field

from unlost.dlq.record.file import FileError
from unlost.listener.app.group_name import GroupName
from unlost.listener.core.shard import Shard
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS
from unlost.listener.store.postgres.reports import Reports
from unlost.ops.audit import query
from unlost.ops.kit.access.settings import ClientSettings
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, UsageProblem, WebAddress


class AuditSettings(ClientSettings, DatabaseTlsSettings):
    """Where the parts of the system are."""

    producer_url: WebAddress = Field("http://127.0.0.1:3005", description="The producer, for its journal")
    listeners: tuple[WebAddress, ...] = Field(
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001"), description="The listeners, for what they hold"
    )
    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL, for the rows"
    )
    letters: tuple[Path, ...] = Field((), description="Dead-letter files, directories or patterns, if no FILE is given")
    group: GroupName = Field("unlost", description="The group of listeners whose cursor counts")
    settle: float = Field(10.0, ge=0, description="Seconds to keep looking for events that are found nowhere")

    @property
    def shard(self) -> Shard | None:
        """The shard that the group is; None if it stores all events."""
        return Shard.of_group(self.group)


files_argument = click.Argument(["files"], nargs=-1, type=click.Path(path_type=Path))


def where(settings: AuditSettings, files: tuple[Path, ...]) -> str:
    """In which place letters are looked for, for people."""
    if files:
        return "those of FILES alone"
    beside = ", and the files of LETTERS for what it lacks" if settings.letters else ""
    return f"the fleet's list of group {settings.group}{beside}"


@contextmanager
def in_one_sentence(settings: AuditSettings) -> Iterator[None]:
    """Turn errors of PostgreSQL and of files into one sentence for the user."""
    try:
        yield
    except FileError as error:
        raise UsageProblem(str(error)) from None
    except TimeoutError:
        raise UsageProblem(
            f"PostgreSQL at {settings.database_url} did not answer within {query.TIMEOUT:g} s: try again, or look for "
            "what keeps it busy in pg_stat_activity"
        ) from None
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        raise UsageProblem(
            f"PostgreSQL has no tables of this version for group {settings.group}: correct GROUP or DATABASE_URL, or "
            "start a listener, or run unlost migrate"
        ) from None
    except LIBRARY_ERRORS as error:
        raise UsageProblem(f"PostgreSQL at {settings.database_url} failed meanwhile: {error}") from None


@asynccontextmanager
async def everybody(settings: AuditSettings) -> AsyncIterator[tuple[httpx.AsyncClient, Reports]]:
    """Open a connection to PostgreSQL and a client for the rest."""
    try:
        connection = await Database(
            settings.database_url.reveal(), name="unlost audit", timeout=query.TIMEOUT, connect_timeout=query.TIMEOUT
        ).connect_alone()
    except (*LIBRARY_ERRORS, ValueError) as error:
        raise UsageProblem(f"PostgreSQL at {settings.database_url} cannot be reached: {error}") from None
    try:
        async with httpx.AsyncClient(trust_env=False, **settings.client()) as client:
            yield client, Reports(connection, settings.group, timeout=query.TIMEOUT)
    finally:
        connection.terminate()
