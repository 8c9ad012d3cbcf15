"""``TestFeed`` shows what frames become, and warns as ``unlost source try`` does."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from unlost.feeds import Action, Again, Feed, FeedEvent, Opening, Receipt, Send, Stop
from unlost.listener.source.feed.recording import BadRecording, MessageFile, messages_in
from unlost.testing import TestFeed

ENVIRONMENT = {"FEED_URL": "ws://127.0.0.1:9/"}


class Orders(Feed):
    """A feed that a user wrote."""

    async def opening(self, after: str | None) -> Opening:
        return Opening(url="ws://127.0.0.1:9/")

    def read(self, message: bytes) -> Iterable[Action]:
        match message:
            case b"ping":
                return (Send("pong"),)
            case b"bye":
                return (Again(), Stop("enough"))
            case b"broken":
                raise KeyError("id")
        return (FeedEvent(message.decode(), b"{}", "order"), Receipt(1))


def test_a_trial_shows_what_each_frame_becomes():
    feed = TestFeed(Orders())
    found = [(one.what, one.event_id or one.detail) for one in feed.read("o1", b"ping", "bye", "broken")]
    assert found == [
        ("event", "o1"),
        ("sent", "pong"), ("control", "ping"),
        ("again", "the feed asked for a new connection"), ("stop", "enough"), ("control", "bye"),
        ("invalid", "the feed's read failed: KeyError: 'id'"),
    ]  # fmt: skip


def match(**fields: int) -> str:
    return json.dumps({"type": "match", "product_id": "X", **fields})


@pytest.mark.parametrize(
    ("frames", "warning"),
    [
        ([], "the feed sent nothing"),
        (['{"type":"heartbeat"}'], "nothing but control messages"),
        ([match()], "1 would be dead letters"),
        ([match(trade_id=1)] * 3, "2 of 3 ids came again"),
        ([match(trade_id=1, n=1), match(trade_id=1, n=2)], "1 came with an id that another"),
        ([match(trade_id=1), match(trade_id=5)], "3 numbers were skipped"),
    ],
)
def test_warnings(frames: list[str], warning: str):
    feed = TestFeed("coinbase-exchange")
    feed.read_all(frames)
    assert any(one.startswith(warning) for one in feed.warnings), feed.warnings


def test_a_good_feed_gives_no_warning():
    feed = TestFeed("seed-001", ENVIRONMENT)
    (one,) = feed.read('{"event_id":"e1","type":"t","payload":{"n":1}}')
    assert (one.what, one.event_id, one.type, one.payload) == ("event", "e1", "t", b'{"n":1}')
    assert not feed.warnings


def test_an_acknowledgement_is_shown_after_the_events_that_it_waits_for():
    feed = TestFeed("slack", {"SLACK_APP_TOKEN": "xapp-sesame"})
    payload = {"event_id": "Ev1", "event": {"type": "message"}}
    found = feed.read(
        '{"type":"hello"}', json.dumps({"type": "events_api", "envelope_id": "env-1", "payload": payload})
    )
    assert [(one.what, one.event_id or one.detail) for one in found] == [
        ("control", '{"type":"hello"}'), ("event", "Ev1"), ("ack", '{"envelope_id":"env-1"}'),
    ]  # fmt: skip


def test_recorded_messages_are_read_again(tmp_path: Path):
    file = tmp_path / "frames.jsonl"
    recording = MessageFile(file)
    for message in (b"o1", "o2 \N{EURO SIGN}\n".encode(), b"\xff\x00"):
        recording.add(message)
    recording.close()
    assert list(messages_in(file)) == [b"o1", "o2 \N{EURO SIGN}\n".encode(), b"\xff\x00"]
    feed = TestFeed(Orders())
    assert next(one.event_id for one in feed.read_recording(file)) == "o1"


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"base64":"?"}', "3"])
def test_a_line_that_is_no_recorded_message_is_named(tmp_path: Path, line: str):
    file = tmp_path / "frames.jsonl"
    file.write_text(f'"o1"\n{line}\n')
    with pytest.raises(BadRecording, match=r"frames\.jsonl, line 2: this is no recorded message"):
        list(messages_in(file))


def test_a_recording_ends_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unlost.listener.source.feed.recording.LARGEST_RECORDING", 10)
    recording = MessageFile(tmp_path / "frames.jsonl")
    for message in (b"o1", b"o2", b"o3"):
        recording.add(message)
    recording.close()
    assert (list(messages_in(tmp_path / "frames.jsonl")), recording.left_out) == ([b"o1", b"o2"], 1)
