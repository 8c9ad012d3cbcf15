"""Payloads are for identities with the right to read them, wherever ``REDACT`` is set."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from tests.support.letters import letter, write
from unlost.dlq.commands.cli import main as dlq
from unlost.dlq.record.trail import read, trail_beside
from unlost.ops.kit.access.identity import Identity

CARD = "4111-1111"


@pytest.fixture
def masking(tmp_path: Path, tokens: Tokens) -> Iterator[RunningProducer]:
    """A producer whose payloads are secret."""
    one = RunningProducer(tmp_path / "journal.sqlite", {"TOKENS_FILE": str(tokens.file), "REDACT": "card"})
    one.start()
    yield one
    one.end()


async def test_the_stream_has_whole_payloads_and_needs_their_right(masking: RunningProducer, tokens: Tokens):
    for name in ("reader", "ana"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(masking.stream, additional_headers=tokens.bearer(name), proxy=None)
        assert refused.value.response.status_code == 403
    event = {"event_id": "e", "payload": {"card": CARD}}
    async with connect(masking.stream, additional_headers=tokens.bearer("auditor"), proxy=None) as one:
        await asyncio.to_thread(masking.http.post, "/publish", json=event, headers=tokens.bearer("shop"))
        assert json.loads(await one.recv())["payload"] == {"card": CARD}


def test_no_right_includes_the_right_to_payloads():
    assert not Identity("ana", frozenset({"admin", "read", "operate", "publish"})).may("read:payload")


def run(*words: object, code: int = 0, redact: str = "card") -> Result:
    result = CliRunner().invoke(dlq, [str(word) for word in words], env={"REDACT": redact})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    secret = letter("a", message=f"no cover on {CARD}", payload={"card": CARD, "total": 1})
    return write(tmp_path / "letters.jsonl", [secret])


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize("words", [("list",), ("show", "a"), ("groups",)], ids=lambda words: words[0])
def test_dlq_shows_no_masked_field(letters: Path, words: tuple[str, ...], form: tuple[str, ...]):
    assert CARD not in run(*words, letters, *form).output
    assert CARD in run(*words, letters, *form, redact="").output


def test_dlq_records_in_the_trail_that_it_showed_payloads(letters: Path):
    assert CARD in run("list", letters, "--unmasked").output
    assert CARD in run("show", "a", letters, "--unmasked").output
    assert "--unmasked" in run("export", letters, code=2).output
    assert CARD in run("export", letters, "--unmasked").output
    assert [(one.origin, one.what) for one in read(trail_beside(letters))] == [
        ("dlq list", "payloads shown"), ("dlq show", "payloads shown"), ("dlq export", "payloads shown"),
    ]  # fmt: skip
