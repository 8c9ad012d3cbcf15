"""Running servers with tokens of every kind."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from tests.end_to_end.producer.conftest import RunningProducer
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.limits import NONE, Limits
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.token_file import load_entries, save_entries

REVOKED = tuple(f"revoked-{test}-{fast}" for test in ("fast", "batch", "stream") for fast in ("on", "off"))
"""Tokens that tests revoke."""
MOVED = ("moved-on", "moved-off")
"""Tokens whose groups a test changes."""


@dataclass
class Tokens:
    """A file of tokens, and the tokens."""

    file: Path
    of: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, *rights: Right, groups: tuple[str, ...] = (), limits: Limits = NONE) -> str:
        token = self.of[name] = new_token()
        entries = load_entries(self.file) if self.file.exists() else []
        save_entries(self.file, [*entries, TokenEntry(name, rights, digest_of(token), groups=groups, limits=limits)])
        return token

    def revoke(self, name: str) -> None:
        save_entries(self.file, [one for one in load_entries(self.file) if one.name != name])

    def move(self, name: str, *groups: str) -> None:
        entries = load_entries(self.file)
        save_entries(self.file, [structs.replace(one, groups=groups) if one.name == name else one for one in entries])

    def bearer(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.of[name]}"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    made = Tokens(tmp_path_factory.mktemp("tokens") / "tokens.jsonl")
    made.add("shop", "publish")
    made.add("reader", "read")
    made.add("auditor", "read", "read:payload")
    made.add("listener", "read", groups=("eu",))
    made.add("ana", "admin")
    made.add("us", "read", groups=("us",))
    made.add("slow", "publish", limits=Limits(events=5))
    made.add("heavy", "publish", limits=Limits(bytes=1_500_000))
    made.add("one-stream", "read", limits=Limits(streams=1))
    made.add("flood", "publish")
    for name in MOVED:
        made.add(name, "read", groups=(name,))
    for name in REVOKED:
        made.add(name, "publish", "read")
    return made


@pytest.fixture(scope="module", params=["on", "off"], ids=["fast", "twin"])
def guarded(
    tmp_path_factory: pytest.TempPathFactory, tokens: Tokens, request: pytest.FixtureRequest
) -> Iterator[RunningProducer]:
    """A producer with tokens."""
    settings = {"TOKENS_FILE": str(tokens.file), "FAST": request.param}
    one = RunningProducer(tmp_path_factory.mktemp("journal") / "journal.sqlite", settings)
    one.start()
    yield one
    one.end()
