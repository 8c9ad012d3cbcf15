"""The gate: who may pass, with which answer otherwise, and what is counted and logged."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from unlost.ops.kit.access import token_file
from unlost.ops.kit.access.gate import CHECK_EVERY, LINES_PER_SECOND, Gate
from unlost.ops.kit.access.hosts import Hosts
from unlost.ops.kit.access.lockout import FREE
from unlost.ops.kit.access.request import AccessRequest, Pass, Refusal
from unlost.ops.kit.access.table import TokenEntry, TokenTable, digest_of, new_token, read_entries, written
from unlost.ops.kit.access.token_file import TokenFile, save_entries

SHOP, ANA, OTHER, LATE = new_token(), new_token(), new_token(), new_token()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.jsonl"
    save_entries(
        path,
        [
            TokenEntry("shop", ("publish",), digest_of(SHOP)),
            TokenEntry("ana", ("admin",), digest_of(ANA), subject="CN=ana"),
            TokenEntry("other", ("admin",), digest_of(OTHER), groups=("us",)),
        ],
    )
    return path


@pytest.fixture
def gate(file: Path) -> Gate:
    return made(file)


def made(file: Path, **more: Any) -> Gate:
    tokens = TokenFile(file)
    tokens.load()
    return Gate(CollectorRegistry(), tokens=tokens, hosts=Hosts.of(["own.example"]), **more)


def asked(**more: Any) -> AccessRequest:
    return AccessRequest(**{"what": "POST /publish", "address": "10.0.0.1", "right": "publish", **more})


def bearer(token: str) -> dict[str, Any]:
    return {"authorization": [f"Bearer {token}"]}


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        (bearer(SHOP), "shop"),
        ({"authorization": [f"bearer  {SHOP} "]}, "shop"),
        (bearer(SHOP) | {"right": "read"}, (403, "right")),
        (bearer(ANA) | {"right": "operate"}, "ana"),
        (bearer(OTHER), (403, "group")),
        ({}, (401, "credentials")),
        ({"authorization": [""]}, (401, "credentials")),
        (bearer(""), (401, "credentials")),
        (bearer("wrong"), (401, "token")),
        (bearer("ü"), (401, "token")),
        ({"authorization": [SHOP]}, "shop"),
        ({"authorization": [f"Basic {SHOP}"]}, (401, "token")),
        ({"authorization": [f"Bearer {SHOP}", "Bearer x"]}, (400, "credentials")),
        ({"protocols": f"unlost, unlost.bearer.{SHOP}"}, "shop"),
        ({"protocols": "unlost.bearer.wrong"}, (401, "token")),
        ({"subject": "CN=ana"}, "ana"),
        ({"subject": "CN=eve"}, (401, "credentials")),
        ({"subject": "CN=ana", **bearer("wrong")}, (401, "token")),
        (bearer(SHOP) | {"hosts": ["own.example"]}, "shop"),
        (bearer(SHOP) | {"hosts": ["evil.example"]}, (421, "host")),
        (bearer(SHOP) | {"hosts": ["own.example", "own.example"]}, (400, "host")),
        (bearer(SHOP) | {"hosts": ["evil.example"], "any_host": True}, "shop"),
        (bearer(SHOP) | {"hosts": ["own.example"], "origin": "http://own.example"}, "shop"),
        (bearer(SHOP) | {"hosts": ["own.example"], "origin": "http://own.example:1"}, (403, "origin")),
        (bearer(SHOP) | {"hosts": ["own.example"], "origin": "http://own.example:1", "own_page": True}, "shop"),
        ({"right": None}, None),
        (bearer("wrong") | {"right": None}, None),
        (bearer(SHOP) | {"right": None}, None),
        (bearer(ANA) | {"right": None}, "ana"),
        (bearer(OTHER) | {"right": None}, None),
    ],
)
def test_the_gate_decides_by_credentials_right_host_and_origin(file: Path, more: dict[str, Any], outcome: Any):
    decided = made(file, group="eu").admit(asked(**more))
    if isinstance(decided, Refusal):
        assert (decided.status, decided.reason) == outcome
        assert not any(token in decided.why for token in (SHOP, ANA, OTHER, "\x1b"))
    else:
        assert (decided.identity.name if decided.identity else None) == outcome


def test_without_tokens_everybody_may_but_names_and_origins_are_checked():
    gate = Gate(CollectorRegistry())
    assert isinstance(gate.admit(asked(right="operate")), Pass)
    assert isinstance(gate.admit(asked(hosts=["evil.example"])), Refusal)
    assert isinstance(gate.admit(asked(hosts=["127.0.0.1:1"], origin="http://127.0.0.1:2")), Refusal)


def test_wrong_tokens_lock_their_address_and_a_right_one_passes_all_the_same(gate: Gate):
    for _ in range(FREE + 1):
        assert gate.admit(asked(**bearer(new_token()))).status == 401
    locked = gate.admit(asked(**bearer(new_token())))
    assert (locked.status, dict(locked.headers)["retry-after"]) in ((429, "1"), (429, "2"))
    assert gate.admit(asked(address="10.0.0.2", **bearer(new_token()))).status == 401
    assert isinstance(gate.admit(asked(**bearer(SHOP))), Pass)
    assert gate.admit(asked()).status == 401, "a client without a token guesses nothing"


def test_each_refusal_is_counted_and_lines_of_a_flood_are_bounded(file: Path):
    registry = CollectorRegistry()
    tokens = TokenFile(file)
    tokens.load()
    gate = Gate(registry, tokens=tokens, clock=lambda: 0.0)
    with capture_logs() as lines:
        for number in range(50):
            gate.admit(asked(what=f"GET /{number}\x1b[2J{'x' * 500}"))
    assert registry.get_sample_value("unlost_refused_requests_total", {"reason": "credentials"}) == 50
    assert len(lines) == LINES_PER_SECOND
    assert all("\x1b" not in line["what"] and len(line["what"]) < 120 for line in lines)
    assert {"reason": "credentials", "status": 401, "address": "10.0.0.1"}.items() <= lines[0].items()


async def test_a_revoked_token_is_refused_within_a_second(gate: Gate, file: Path):
    passed = gate.admit(asked(**bearer(SHOP)))
    changed = asyncio.Event()
    gate.on_change = changed.set
    watching = asyncio.create_task(gate.watch())
    save_entries(file, [TokenEntry("ana", ("admin",), digest_of(ANA))])
    async with asyncio.timeout(1):
        await changed.wait()
    watching.cancel()
    assert CHECK_EVERY < 1
    assert isinstance(passed, Pass)
    assert not gate.may_go_on(passed, "publish")
    assert gate.admit(asked(**bearer(SHOP))).reason == "token"
    assert gate.generation == 1


def damaged(file: Path, damage: str) -> bytes:
    """Damage the file; return what it was."""
    content = file.read_bytes()
    match damage:
        case "half":
            file.write_bytes(content[:-20])
        case "gone":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
    return content


@pytest.mark.parametrize("damage", ["half", "gone"])
async def test_a_file_that_cannot_be_read_keeps_the_tokens_and_says_so(gate: Gate, file: Path, damage: str):
    content = damaged(file, damage)
    with capture_logs() as lines:
        await gate.refresh()
        await gate.refresh()
    assert [line["event"] for line in lines] == ["tokens_unreadable"]
    assert "its earlier content stays in use" in gate.remarks()[0]
    assert isinstance(gate.admit(asked(**bearer(SHOP))), Pass)
    save_entries(file, read_entries(content))
    await gate.refresh()
    assert gate.remarks() == ()


def padded(file: Path, content: bytes) -> None:
    """Write the content without its end, in its length."""
    file.write_bytes(content[:-20] + b" " * 20)


def rewritten(file: Path, content: bytes) -> None:
    """Write into the file, so that it looks the same as before by its time and size."""
    before = file.stat()
    file.write_bytes(content)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_half_written_file_is_tried_again_although_it_looks_the_same(gate: Gate, file: Path):
    """Its second half may come within the same tick of the disk's clock."""
    content = written([TokenEntry("ana", ("admin",), digest_of(ANA)), TokenEntry("late", ("read",), digest_of(LATE))])
    save_entries(file, [TokenEntry("ana", ("admin",), digest_of(ANA))])
    await gate.refresh()
    assert gate.admit(asked(**bearer(SHOP))).reason == "token"
    padded(file, content)
    await gate.refresh()
    assert "its earlier content stays in use" in gate.remarks()[0]
    assert gate.admit(asked(**bearer(SHOP))).reason == "token", "what was revoked before stays revoked"
    rewritten(file, content)
    await gate.refresh()
    assert gate.remarks() == ()
    assert gate.identify(LATE).name == "late"


async def test_the_event_loop_goes_on_while_the_tokens_are_read(file: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[threading.Thread] = []
    load = token_file.load_table

    def watched(path: Path) -> TokenTable:
        seen.append(threading.current_thread())
        return load(path)

    monkeypatch.setattr(token_file, "load_table", watched)
    gate = made(file)
    seen.clear()
    damaged(file, "empty")
    await gate.refresh()
    assert seen
    assert threading.main_thread() not in seen


async def test_an_empty_file_revokes_all(gate: Gate, file: Path):
    damaged(file, "empty")
    await gate.refresh()
    assert gate.admit(asked(**bearer(ANA))).status == 401


def test_a_decision_takes_microseconds(gate: Gate):
    request = asked(**bearer(SHOP), hosts=["own.example"])
    started = time.process_time()
    for _ in range(1_000):
        gate.admit(request)
    assert time.process_time() - started < 1.0
