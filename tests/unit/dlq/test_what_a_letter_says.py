"""A letter and its state as complete values: each field is right, and nothing is invented."""

import hashlib
import time
from typing import Any, get_args

import msgspec
import pytest

from unlost.dlq.record import sidecar
from unlost.dlq.record.fingerprint import fingerprint
from unlost.dlq.record.letter import Letter, epoch_second, iso, letter_for, letter_for_frame
from unlost.dlq.record.letter_line import Damaged, decode, encode, letter_values
from unlost.dlq.record.letter_state import OPEN, LetterState, Record, Status, What, after
from unlost.dlq.record.line import seal
from unlost.listener.core.cause import Reason  # fmt: skip
from unlost.listener.core.errors import MESSAGE_LIMIT, Failure
from unlost.listener.core.event import parse
from unlost.listener.core.oversized import Oversized

EVENT = parse(b'{"event_id":"e","type":"t","payload":{"n":1},"more":2}', max_bytes=1_000)
SECRET = "ws://u:sesame@h/?token=sesame"
MASKED = "ws://***@h/?token=***"


def of_event(reason: Reason = "exhausted", *attempts: Failure) -> Letter:
    return letter_for(
        EVENT, letter_id="l", reason=reason, stage="store", attempts=attempts, at=9.0, instance="a", epoch=3,
        mode="degraded", source=SECRET, cursor="j.7", handler="shop:handle@2",
    )  # fmt: skip


def failure(at: float, traceback: str | None, message: str = f"no {SECRET}") -> Failure:
    return Failure(at, "handle", "permanent", "KeyError", message, "23505", traceback)


def test_a_letter_of_an_event_has_all_that_is_known_of_it():
    letter = of_event("exhausted", failure(4.0, "at a"), failure(7.0, f"at {SECRET}"))
    message = f"no {MASKED}"
    assert letter == Letter(
        letter_id="l", event_id="e", reason="exhausted", error_class="permanent", stage="store",
        event=EVENT.on_one_line(), raw=None,
        attempts=(failure(4.0, "at a", message), failure(7.0, f"at {MASKED}", message)),
        error_type="KeyError", message=message, sqlstate="23505",
        fingerprint=fingerprint("exhausted", "KeyError", message, "23505", "store", EVENT), first_at=4.0, last_at=9.0,
        instance="a", epoch=3, mode="degraded", cursor="j.7", source=MASKED, handler="shop:handle@2",
    )  # fmt: skip
    assert decode(encode(letter)) == letter


def test_attempts_that_failed_at_one_place_say_where_once_in_the_last_of_them():
    letter = of_event("exhausted", *(failure(float(n), where) for n, where in enumerate(["b", "a", "a", None, "a"])))
    assert [one.traceback for one in letter.attempts] == ["b", None, "a", None, "a"]
    assert [one.at for one in letter.attempts] == [0.0, 1.0, 2.0, 3.0, 4.0]


UNATTEMPTED = {
    "exhausted": ("Exhausted", "transient"), "rejected": ("Reject", "permanent"), "conflict": ("Conflict", "permanent"),
    "invalid": ("InvalidEvent", "permanent"), "crash_loop": ("CrashLoop", "permanent"),
    "overflow": ("Overflow", "transient"), "stopped": ("Stopped", "transient"),
    "deferred": ("Deferred", "transient"), "effect": ("EffectFailed", "transient"),
    "blocked": ("Blocked", "transient"),
}  # fmt: skip


@pytest.mark.parametrize("reason", get_args(Reason))
def test_a_letter_without_attempts_says_of_what_kind_it_is(reason: Reason):
    letter = of_event(reason)
    assert (letter.error_type, letter.error_class) == UNATTEMPTED[reason]
    assert (letter.attempts, letter.sqlstate, letter.first_at, letter.last_at) == ((), None, 9.0, 9.0)
    assert letter.message
    print_of = fingerprint(reason, letter.error_type, letter.message, None, "store", EVENT)
    assert letter.fingerprint == print_of


def of_frame(**more: Any) -> Letter:
    return letter_for_frame(
        b"\xff[", letter_id="l", message=f"no {SECRET}", event_id=None, at=9.0, instance="a", source=SECRET, **more
    )


def test_a_letter_of_a_frame_keeps_its_bytes():
    message = f"no {MASKED}"
    letter = of_frame(handler="shop:handle", cursor="j.8", mode="degraded")
    assert letter == Letter(
        letter_id="l", event_id=None, reason="invalid", error_class="permanent", stage="receive", event=None,
        raw=b"\xff[", attempts=(Failure(9.0, "receive", "permanent", "InvalidEvent", message),),
        error_type="InvalidEvent", message=message, sqlstate=None,
        fingerprint=fingerprint("invalid", "InvalidEvent", message, None, "receive", None), first_at=9.0, last_at=9.0,
        instance="a", epoch=0, mode="degraded", cursor="j.8", source=MASKED, handler="shop:handle",
    )  # fmt: skip
    assert decode(encode(letter)) == letter


def test_a_letter_of_a_frame_that_was_too_large_has_its_length_and_digest():
    digest = hashlib.sha256(b"all of it").digest()
    letter = of_frame(reason="stopped", whole=Oversized(10**9, digest, b"all"))
    assert (letter.raw_length, letter.raw_sha256) == (10**9, digest.hex())
    assert (letter.reason, letter.error_type, letter.error_class) == ("stopped", "Stopped", "transient")
    assert letter.attempts[0].error_class == "transient"
    assert decode(encode(letter)) == letter


def test_the_shown_values_of_a_letter_are_those_of_its_line():
    for letter in (of_event("exhausted", failure(4.0, "at a")), of_frame()):
        line = msgspec.json.decode(encode(letter))
        del line["checksum"]
        assert msgspec.json.decode(msgspec.json.encode(letter_values(letter))) == line


def test_times_are_utc_to_the_microsecond():
    assert iso(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
    assert epoch_second("2023-11-14T22:13:20.250000Z") == 1_700_000_000.25
    assert epoch_second("2023-11-14T22:13:20.250000") == 1_700_000_000.25
    assert epoch_second("2023-11-14T23:13:20.250000+01:00") == 1_700_000_000.25


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as moved:
        moved.setenv("TZ", "UTC-9")
        time.tzset()
        assert epoch_second("2023-11-14T22:13:20.250000") == 1_700_000_000.25
    time.tzset()


def sealed(line: dict[str, Any]) -> bytes:
    return seal(msgspec.defstruct("Line", [(name, Any) for name in line])(**line))


def changed(letter: Letter, **fields: Any) -> bytes:
    """A line with a valid checksum and changed content."""
    line = msgspec.json.decode(encode(letter))
    del line["checksum"]
    return sealed(line | fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"raw_base64": "/1s=!"}, "it cannot be read: "),
        ({"reason": "bored"}, "it cannot be read: Invalid enum value 'bored'"),
        ({"mode": "sad"}, "it cannot be read: Invalid enum value 'sad'"),
        ({"first_at": "yesterday"}, "it cannot be read: Invalid isoformat string"),
        ({"attempts": [{"at": "x"}]}, "it cannot be read: "),
        ({"v": 2}, "it has format version 2, and this program reads 1; use a newer one"),
        ({"v": None}, "it has format version null"),
    ],
)
def test_a_line_that_is_sealed_and_wrong_is_damaged_and_says_why(fields: dict[str, Any], why: str):
    with pytest.raises(Damaged) as damaged:
        decode(changed(of_frame(), **fields))
    assert str(damaged.value).startswith(why)


# -- what became of it ----------------------------------------------------------------------------
# -- its state -------------------------------------------------------------------------------------
SEEN = LetterState("failed", 2, 5.0, "before", "KeyError")


@pytest.mark.parametrize(
    ("state", "what", "now"),
    [
        (OPEN, "resolved", LetterState("resolved", 0, 8.0, "said", None)),
        (SEEN, "resolved", LetterState("resolved", 2, 8.0, "said", "KeyError")),
        (OPEN, "failed", LetterState("failed", 1, 8.0, "said", None)),
        (SEEN, "failed", LetterState("failed", 3, 8.0, "said", "KeyError")),
        (SEEN, "archived", LetterState("archived", 2, 8.0, "said", "KeyError")),
        (SEEN, "quarantined", LetterState("quarantined", 2, 8.0, "said", "KeyError")),
        (SEEN, "restored", LetterState("open", 0, 8.0, "said", None)),
        (LetterState("archived", 2), "failed", LetterState("archived", 3, 8.0, "said", None)),
        (LetterState("quarantined", 2), "failed", LetterState("quarantined", 3, 8.0, "said", None)),
        (LetterState("archived", 2), "restored", LetterState("open", 0, 8.0, "said", None)),
    ],
)
def test_each_record_leads_to_its_state(state: LetterState, what: What, now: LetterState):
    assert after(state, Record("l", what, 8.0, "said")) == now


def test_the_type_of_the_last_failure_is_kept():
    assert after(SEEN, Record("l", "failed", 8.0, "said", "OSError")).error_type == "OSError"


@pytest.mark.parametrize("what", sorted({*get_args(What)} - {"reopened", "resolved", "assigned"}))
def test_a_resolved_letter_stays_so_unless_its_row_is_gone(what: What):
    state = LetterState("resolved", 1, 5.0)
    assert after(state, Record("l", what, 8.0)) is state


def test_open_and_failed_letters_wait_and_no_others():
    waiting = {status for status in get_args(Status) if LetterState(status).waits}
    assert waiting == {"open", "failed"}
    assert LetterState() == LetterState("open", 0, None, "", None)


@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize("error_type", [None, "", "OSError"])
def test_a_record_comes_back_as_it_was(what: What, error_type: str | None):
    record = Record("l", what, 8.25, "said", error_type)
    assert sidecar.decode(sidecar.encode(record)) == record


def test_the_detail_of_a_record_is_masked_and_bounded():
    record = Record("l", "failed", 8.0, SECRET + " " + "x" * 5_000 + "\nits cause")
    assert sidecar.decode(sidecar.encode(record)) == record
    assert len(record.detail) == MESSAGE_LIMIT
    assert (record.detail.startswith(MASKED + " xxx"), record.detail.endswith("…its cause")) == (True, True)


@pytest.mark.parametrize(
    "line", [{"v": 2}, {"v": 1, "letter_id": "l", "what": "eaten", "at": "2023-11-14T22:13:20Z"},
             {"v": 1, "letter_id": "l", "what": "failed", "at": "yesterday"}]
)  # fmt: skip
def test_a_record_that_is_sealed_and_wrong_is_damaged(line: dict[str, Any]):
    assert sidecar.decode(sealed(line)) is None


def test_a_record_without_what_need_not_be_said_is_read():
    line = {"v": 1, "letter_id": "l", "what": "failed", "at": "2023-11-14T22:13:20Z"}
    assert sidecar.decode(sealed(line)) == Record("l", "failed", 1_700_000_000.0, "", None)
