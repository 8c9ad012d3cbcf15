"""Announcements of commits between the producers of one journal, as messages of NATS that nobody keeps."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from nats.aio.msg import Msg

from unlost.producer.journal.jetstream.connection import LIBRARY_ERRORS
from unlost.producer.journal.jetstream.session import JournalSession

AGAIN_SECONDS = 1.0


def _subject(session: JournalSession) -> str:
    return f"{session.address.stream}.grew"


async def announce(session: JournalSession, name: str, newest: int) -> None:
    """Announce the newest number. ``name``: whose commit it was."""
    await session.connection.tell(_subject(session), f"{name} {newest}".encode())


async def follow(session: JournalSession, own: str, grew: Callable[[int], None]) -> None:
    """Call ``grew`` with the newest number that another has announced. Cancelled at the end."""

    async def heard(message: Msg) -> None:
        name, _, newest = message.data.decode("ascii", "replace").partition(" ")
        if name != own and newest.isdigit():
            grew(int(newest))

    while True:
        with suppress(*LIBRARY_ERRORS):
            client = await session.following.client()
            await client.subscribe(_subject(session), cb=heard)
            await session.following.ended.wait()
        await asyncio.sleep(AGAIN_SECONDS)
