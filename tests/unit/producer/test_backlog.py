"""The backlog: entries for which several clients lag are read once. Failed or empty reads are not kept."""

import asyncio

import pytest

from tests.support.frames import NEWEST, PIECE, NumberedFrames
from unlost.producer.journal.port import JournalError
from unlost.producer.stream.backlog import KEPT, Backlog


async def whole(backlog: Backlog, after: int = 0) -> list[bytes]:
    found: list[bytes] = []
    while frames := await backlog.after(after + len(found)):
        found += frames
    return found


async def test_clients_that_start_at_the_same_place_share_each_read():
    journal = NumberedFrames()
    backlog = Backlog(journal.read)
    both = await asyncio.gather(whole(backlog), whole(backlog))
    assert both == [[b"%d" % n for n in range(1, NEWEST + 1)]] * 2
    assert sorted(journal.asked) == [*range(0, NEWEST, PIECE), NEWEST]


async def test_a_reader_within_a_piece_continues_there():
    journal = NumberedFrames()
    backlog = Backlog(journal.read)
    await backlog.after(20)
    assert await backlog.after(23) == [b"%d" % n for n in range(24, 31)]
    assert await backlog.after(19) == [b"%d" % n for n in range(20, 30)]
    assert journal.asked == [20, 19]


async def test_only_the_last_pieces_are_kept():
    journal = NumberedFrames(newest=PIECE * (KEPT + 1))
    backlog = Backlog(journal.read)
    for number in range(0, PIECE * (KEPT + 1), PIECE):
        await backlog.after(number)
    await backlog.after(PIECE)
    await backlog.after(0)
    assert journal.asked == [*range(0, PIECE * (KEPT + 1), PIECE), 0]


async def test_an_empty_or_failed_read_is_repeated():
    journal = NumberedFrames()
    backlog = Backlog(journal.read)
    journal.oldest = 5
    assert await backlog.after(0) == []
    journal.error = True
    for result in await asyncio.gather(backlog.after(7), backlog.after(7), return_exceptions=True):
        assert isinstance(result, JournalError)
    journal.error = False
    assert await backlog.after(7)
    assert journal.asked == [0, 7, 7]


async def test_a_cancelled_client_leaves_the_read_to_the_others():
    journal = NumberedFrames()
    backlog = Backlog(journal.read)
    journal.goes_on.clear()
    one, two = asyncio.create_task(backlog.after(0)), asyncio.create_task(backlog.after(0))
    await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    journal.goes_on.set()
    assert len(await two) == PIECE
    assert journal.asked == [0]
