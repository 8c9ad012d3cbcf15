"""Signed publishing on a running producer, and what is not signed well."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from unlost.ops.kit.access.webhook import TOLERANCE, signature

OLD, NEW, OTHER = (secrets.token_bytes(32) for _ in range(3))
EVENT = b'{"type":"invoice.paid","data":{"total":3}}'


def line(name: str, secret: bytes) -> str:
    return f"{name}=whsec_{base64.b64encode(secret).decode()}\n"


@pytest.fixture(scope="module", params=["on", "off"], ids=["fast", "twin"])
def signing(
    tmp_path_factory: pytest.TempPathFactory, tokens: Tokens, request: pytest.FixtureRequest
) -> Iterator[RunningProducer]:
    """A producer that knows a sender, whose secret is being replaced."""
    directory = tmp_path_factory.mktemp("signing")
    senders = directory / "senders"
    senders.write_text(line("bank", OLD) + line("bank", NEW))
    senders.chmod(0o600)
    settings = {"TOKENS_FILE": str(tokens.file), "SENDERS_FILE": str(senders), "FAST": request.param}
    one = RunningProducer(directory / "journal.sqlite", settings)
    one.start()
    yield one
    one.end()


def post(
    producer: RunningProducer, key: str, *, secret: bytes = NEW, at: float | None = None, body: bytes = EVENT,
    signed: bytes | None = None, more: str = "", path: str = "/publish",
) -> httpx.Response:  # fmt: skip
    stamp = str(int(time.time() if at is None else at))
    headers = {
        "webhook-id": key, "webhook-timestamp": stamp,
        "webhook-signature": more + signature(secret, key, stamp, signed or body),
    }  # fmt: skip
    return producer.http.post(path, content=body, headers=headers)


def test_either_secret_of_a_sender_publishes_and_a_retry_is_a_duplicate(signing: RunningProducer):
    for number, secret in enumerate((OLD, NEW)):
        answer = post(signing, f"msg_{number}", secret=secret)
        assert (answer.status_code, answer.json()["event_id"]) == (202, f"msg_{number}")
    assert post(signing, "msg_0").status_code == 409, "what somebody recorded and sends again"
    assert post(signing, "msg_2", more="v1,bm90IGl0 v2,x ").status_code == 202, "one signature that fits is enough"
    own = json.dumps({"event_id": "own", "payload": {}}).encode()
    assert post(signing, "msg_3", body=own).json()["event_id"] == "own"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"secret": OTHER}, "no sender"),
        ({"signed": b"{}"}, "no sender"),
        ({"ago": TOLERANCE + 5}, "not within"),
        ({"ago": -TOLERANCE - 60}, "not within"),
        ({"at": -1}, "not within"),
        ({"key": "a.b"}, "no dot"),
        ({"key": "x" * 257}, "256"),
    ],
)
def test_a_request_without_a_current_signature_is_refused(signing: RunningProducer, changes: dict, why: str):
    ago = changes.get("ago")
    changes = changes if ago is None else {"at": time.time() - ago}  # from now, not from when tests were collected
    answer = post(signing, **{"key": f"bad_{secrets.token_hex(4)}", **changes})
    assert answer.status_code in (401, 429)
    assert why in answer.json()["error"] or answer.status_code == 429


def test_an_incomplete_signature_is_none_and_no_token_is_needed_beside_a_whole_one(
    signing: RunningProducer, tokens: Tokens
):
    for headers in ({"webhook-signature": "v1,x"}, [("webhook-signature", "v1,x")] * 2):
        assert signing.http.post("/publish", content=EVENT, headers=headers).status_code == 401
    assert signing.http.post("/publish", content=EVENT).status_code == 401
    assert post(signing, "elsewhere", path="/publish/batch").status_code == 401, "only single events are signed"
    assert signing.http.post("/publish", content=EVENT, headers=tokens.bearer("shop")).status_code == 202


def test_a_removed_secret_is_refused_within_a_second_and_a_damaged_file_changes_nothing(
    signing: RunningProducer, tokens: Tokens
):
    file = Path(signing.settings["SENDERS_FILE"])
    file.write_text(line("bank", NEW))
    deadline = time.monotonic() + 5
    while post(signing, f"gone-{secrets.token_hex(4)}", secret=OLD).status_code == 202:
        assert time.monotonic() < deadline
    file.write_text("bank=whsec_short\n")
    reader = tokens.bearer("reader")
    while "SENDERS_FILE" not in signing.http.get("/health", headers=reader).text:
        assert time.monotonic() < deadline
    assert post(signing, f"kept-{secrets.token_hex(4)}").status_code == 202


async def test_a_body_beyond_the_limit_is_not_read(signing: RunningProducer):
    answer = await asyncio.to_thread(post, signing, "large", body=b"x" * 1_100_000)
    assert answer.status_code == 413
