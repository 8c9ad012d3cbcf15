"""The console's letters: the fleet's list, and beside it what only a file has, marked as such."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.codecs import Keys
from tests.support.letters import letter, write
from unlost.dlq.record.coded import encoded
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.query import Selection
from unlost.listener.core.event import parse
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.console.letters import ConsoleLetters
from unlost.ops.console.shelf import ConsoleFiles
from unlost.ops.kit.telemetry.redact import EVERYTHING, UNMASKED, Redactor

pytestmark = pytest.mark.database("migrated")

SHIPPED, ALONE = (
    letter("shipped", message="one", at=1_700_000_010.0, type="order", route="reserve", handler="shop:app@7"),
    letter("alone", message="two", at=1_700_000_020.0),
)


@pytest.fixture
async def letters(database_url: str, tmp_path: Path) -> AsyncIterator[ConsoleLetters]:
    """Two letters in a file, of which one is in the list."""
    database = Database(database_url)
    await migrate(database)
    await LetterTable(database, token="t").add("a", [Listed(SHIPPED, encode(SHIPPED), None)])
    file = write(tmp_path / "letters.jsonl", [SHIPPED, ALONE])
    redactor = Redactor([])
    yield ConsoleLetters(database, ConsoleFiles([file], redactor), redactor)
    await database.close()


async def test_a_letter_that_only_a_file_has_is_shown_as_such(letters: ConsoleLetters) -> None:
    board = await letters.groups(Selection())
    assert sum(one["letters"] for one in board["groups"]) == 1
    assert [(one["letter_id"], one["unshipped"]) for one in board["unshipped"]] == [(ALONE.letter_id, True)]
    listed = await letters.letters(Selection(), 10)
    assert listed["count"] == 2
    assert [(one["letter_id"], one.get("unshipped", False)) for one in listed["letters"]] == [
        (ALONE.letter_id, True),
        (SHIPPED.letter_id, False),
    ]
    for found in (await letters.groups(Selection(text="TWO")), await letters.letters(Selection(text="TWO"), 10)):
        alone = found["unshipped"] if "unshipped" in found else found["letters"]
        assert (found.get("groups", []), [one["letter_id"] for one in alone]) == ([], [ALONE.letter_id])
    (group,) = (await letters.groups(Selection(text="one")))["groups"]
    assert (group["type"], group["route"], group["handler"]) == ("order", "reserve", "shop:app@7")
    assert (group["by_state"], group["needing_human"]) == ({"open": 1}, 1)
    assert await letters.changeable(Selection(), "", "archived") == 1
    assert (await letters.letters(Selection(fingerprint=SHIPPED.fingerprint), 10))["count"] == 1
    assert (await letters.letter(ALONE.letter_id, UNMASKED))["unshipped"]
    assert "unshipped" not in await letters.letter(SHIPPED.letter_id, UNMASKED)
    assert ALONE.event_id is not None
    (found,) = await letters.of_event(ALONE.event_id, UNMASKED)
    assert (found["letter_id"], found["unshipped"]) == (ALONE.letter_id, True)


async def test_a_change_is_recorded_with_who_asked_for_it(letters: ConsoleLetters) -> None:
    one = await letters.letter(ALONE.letter_id, UNMASKED)
    chosen = Selection(ids=(ALONE.letter_id,))
    assert await letters.change(chosen, one["file"], "archived", "why", "ana (console)") == 1
    assert (await letters.letter(ALONE.letter_id, UNMASKED))["state"]["by"] == "ana (console)"
    chosen = Selection(ids=(SHIPPED.letter_id,))
    assert await letters.change(chosen, "", "archived", "why", "ana (console)") == 1
    assert (await letters.letter(SHIPPED.letter_id, UNMASKED))["state"]["by"] == "ana (console)"


async def test_an_encrypted_letter_is_shown_only_to_who_may_see_payloads(database_url: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    plain = letter("e", message="no cover on 4111", payload={"card": "4111", "customer": "17"})
    assert plain.event is not None
    kept = encoded(plain, parse(plain.event, max_bytes=10_000), keys.codec)
    database = Database(database_url)
    await migrate(database)
    await LetterTable(database, token="t").add("a", [Listed(kept, encode(kept), None)])
    masked = Redactor([EVERYTHING])
    shelf = ConsoleFiles([write(tmp_path / "letters.jsonl", [kept])], masked, keys.codec)
    try:
        for console in (
            ConsoleLetters(database, shelf, masked, keys.codec),
            ConsoleLetters(Database("postgresql://postgres@127.0.0.1:1/none"), shelf, masked, keys.codec),
        ):
            assert "4111" in msgspec.json.encode(await console.letter(kept.letter_id, UNMASKED)).decode()
            for found in (
                await console.letter(kept.letter_id, masked),
                await console.letters(Selection(), 10),
                await console.groups(Selection()),
            ):
                assert "4111" not in msgspec.json.encode(found).decode()
        keys.erase("17")
        assert "its subject was erased" in (await console.letter(kept.letter_id, UNMASKED))["unreadable"]
    finally:
        await database.close()
