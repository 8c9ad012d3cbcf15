"""Which letters a command works on: the files given; else the fleet's list, if PostgreSQL answers; else the files of
LETTERS or DEAD_LETTER_FILE.

If files are used because PostgreSQL does not answer, a warning on stderr says so: other instances' letters are missing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from unlost.dlq.commands.options import LetterOptions, as_usage, files_of
from unlost.dlq.record.file import FileError
from unlost.dlq.replay.plan import LOCKED
from unlost.dlq.store.coded import DecodedLetters
from unlost.dlq.store.files import FileLetters
from unlost.dlq.store.port import LetterStore, Locked, Unreachable
from unlost.listener.core.codec_loading import CodecOptions, codec_of
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.ops.kit.command import SecretUrl, UsageProblem, say

T = TypeVar("T")
TIMEOUT = 5.0
FAILED = 1


class StoreSettings(LetterOptions, CodecOptions, Protocol):
    """The settings that say where letters are."""

    @property
    def database_url(self) -> SecretUrl | None:
        """PostgreSQL with the fleet's list."""

    @property
    def group(self) -> str:
        """The group whose list it is."""

    @property
    def model_fields_set(self) -> set[str]:
        """The settings that were given, by a flag, the environment or ``.env``."""


@contextlib.asynccontextmanager
async def opened(settings: StoreSettings, files: Sequence[Path]) -> AsyncIterator[LetterStore]:
    """Open the letters that a command works on, with plain content if CODEC can decode it."""
    try:
        codec = codec_of(settings)
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    async with as_kept(settings, files) as store:
        yield store if codec is None else DecodedLetters(store, codec)


@contextlib.asynccontextmanager
async def as_kept(settings: StoreSettings, files: Sequence[Path]) -> AsyncIterator[LetterStore]:
    """Open the letters that a command works on, as they are kept."""
    url = settings.database_url
    if url is None or "database_url" not in settings.model_fields_set:
        yield FileLetters(files_of(settings, files))
        return
    found = FileLetters(files_of(settings, files)) if files else None
    # Imported only here: commands that work on files need no PostgreSQL.
    from unlost.listener.store.postgres.database import Database
    from unlost.listener.store.postgres.letter_store import TableLetters
    from unlost.listener.store.postgres.shared_files import SharedFiles

    database = Database(
        url.reveal(), group=settings.group, name="dlq", connections=4, timeout=TIMEOUT, connect_timeout=TIMEOUT
    )
    try:
        if found is not None:
            yield SharedFiles(found, database)
            return
        table = TableLetters(database)
        try:
            await table.ready()
        except (Transient, Permanent, Misconfigured, Unreachable) as error:
            store = FileLetters(files_of(settings, ()))
            say(f"warning: {error}; these are the letters in {store.where} alone", err=True)
            yield store
        else:
            yield table
    finally:
        await database.close()


def run(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a command's work, and turn its errors into sentences and exit codes."""
    return ended(lambda: asyncio.run(work()))


def ended(work: Callable[[], int]) -> int:
    """Return the exit code of some work."""
    try:
        return work()
    except FileError as error:
        raise as_usage(error) from None
    except Locked as error:
        say(f"error: {error}", err=True)
        return LOCKED
    except Unreachable as error:
        say(f"error: {error}", err=True)
        return FAILED
