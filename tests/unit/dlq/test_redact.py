"""Redacted fields are masked at any depth, in texts that quote them, and in unparsable input."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.dlq.commands.keys import shown
from unlost.dlq.commands.trail import about
from unlost.dlq.record.letter import letter_for, letter_for_frame
from unlost.dlq.record.letter_line import letter_values
from unlost.dlq.record.letter_state import LetterState, Status
from unlost.dlq.record.query import Selection
from unlost.dlq.record.redacted import redacted
from unlost.dlq.store.entries import LetterEntry, redacted_entry
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import parse
from unlost.ops.kit.telemetry.redact import MASK, TOO_DEEP, UNREADABLE, WITHHELD, Redactor

CARD = "4111-1111"
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


def letter(message: str, event: dict):
    attempts = [Failure(1.0, "handle", "permanent", "Reject", message)]
    return letter_for(
        parse(json.dumps(event).encode(), max_bytes=10_000),
        letter_id="l1",
        reason="rejected",
        stage="handle",
        attempts=attempts,
        at=2.0,
        instance="a",
        epoch=1,
        mode="normal",
        source=None,
    )


def test_a_field_is_masked_by_its_name_at_any_depth():
    reported = Redactor(["card", "IBAN"]).value({"a": [{"card": [1, {"x": 2}]}], "iban": None, "Card": 1, "total": 3})
    assert reported == {"a": [{"card": MASK}], "iban": MASK, "Card": MASK, "total": 3}


def test_a_path_masks_where_it_ends_and_lists_do_not_count():
    reported = Redactor(["customer.card"]).value(
        {"customer": [{"Card": 1, "x": {"card": 2}}], "card": 3, "customer.card": 4}
    )
    assert reported == {"customer": [{"Card": MASK, "x": {"card": 2}}], "card": 3, "customer.card": MASK}


def test_a_name_is_no_end_of_a_longer_name():
    assert Redactor(["card"]).value({"postcard": 1, "card": 2}) == {"postcard": 1, "card": MASK}


def test_the_value_at_a_path_is_masked_in_texts():
    reported = Redactor(["buyer.card"]).text(f"{CARD} and 4222", {"buyer": {"card": CARD}, "card": "4222"})
    assert reported == f"{MASK} and 4222"


def test_places_of_a_traceback_are_kept_and_texts_are_not():
    trace = f'Traceback:\n  File "h.py", line 3, in handle\n    raise Reject("{CARD}")\nReject: {CARD}\n  File {CARD}'
    assert Redactor(["card"]).trace(trace) == '  File "h.py", line 3, in handle'
    assert Redactor([]).trace(trace) == trace


@given(
    st.recursive(
        PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner), max_leaves=8
    )
)
def test_without_names_nothing_is_changed(value: object):
    assert Redactor([]).value(value) == value


@given(
    st.recursive(
        st.just("SECRET") | PLAIN,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "hidden"]), inner),
        max_leaves=10,
    )
)
def test_no_value_below_a_masked_name_is_shown(value: object):
    reported = json.dumps(Redactor(["hidden"]).value({"hidden": value, "beside": 1}))
    assert "SECRET" not in reported


def test_a_letter_shows_its_masked_values_nowhere():
    event = {"event_id": "e", "payload": {"card": CARD, "pin": 12345, "total": 1}}
    reported = redacted(letter(f"card {CARD} with pin 12345 refused for 1", event), Redactor(["card", "pin"]))
    text = json.dumps({**letter_values(reported), "event": reported.event.decode()})
    assert CARD not in text
    assert "12345" not in text
    assert reported.message == f"card {MASK} with pin {MASK} refused for 1"
    assert reported.event is not None
    assert json.loads(reported.event)["payload"] == {"card": MASK, "pin": MASK, "total": 1}


def test_a_frame_that_cannot_be_parsed_is_withheld_whole():
    frame = letter_for_frame(
        f'{{"card": "{CARD}", '.encode(),
        letter_id="l2",
        message=f"it ends after {CARD}",
        event_id=None,
        at=1.0,
        instance="a",
        source=None,
    )
    reported = redacted(frame, Redactor(["card"]))
    assert reported.raw == UNREADABLE
    assert reported.message == WITHHELD


def test_a_text_about_unknown_content_is_withheld_only_where_something_is_masked():
    assert Redactor(["card"]).unknown("handle: refused") == WITHHELD
    assert Redactor(["card"]).unknown("") == ""
    assert Redactor([]).unknown("handle: refused") == "handle: refused"


@pytest.mark.parametrize("status", ["open", "failed", "resolved", "quarantined"])
def test_the_detail_of_a_state_is_masked(status: Status):
    one = letter("refused", {"event_id": "e", "payload": {"card": CARD}})
    entry = LetterEntry(one, LetterState(status=status, detail=f"card {CARD} again"))
    assert redacted_entry(entry, Redactor(["card"])).state.detail == f"card {MASK} again"


def test_an_archive_reason_is_shown_and_a_later_error_is_masked():
    one = letter("refused", {"event_id": "e", "payload": {"card": "lost"}})
    for error_type, detail in ((None, "a lost order"), ("Reject", f"a {MASK} order")):
        state = LetterState(status="archived", detail="a lost order", error_type=error_type)
        assert redacted_entry(LetterEntry(one, state), Redactor(["card"])).state.detail == detail


def nested(levels: int) -> object:
    value: object = {"card": CARD}
    for _ in range(levels):
        value = {"a": [value]}
    return value


def test_a_payload_that_is_nested_too_deeply_is_withheld_and_stops_nothing():
    redactor, deep = Redactor(["card"]), nested(100_000)
    assert redactor.row({"payload": deep, "other": {"card": 1}}) == {"payload": TOO_DEEP, "other": {"card": MASK}}
    assert json.loads(redactor.content(deep)) == TOO_DEEP
    assert redactor.text(CARD, deep) == WITHHELD


def row(**values: object) -> dict:
    return {"payload": {"card": CARD}, "other": None, "letter_version": None, **values}


def test_a_path_from_the_event_masks_rows_as_it_masks_events():
    redactor = Redactor(["payload.card"])
    assert redactor.row(row())["payload"] == {"card": MASK}
    assert json.loads(redactor.content({"payload": {"card": CARD}})) == {"payload": {"card": MASK}}
    assert redactor.row(row(payload={"buyer": {"card": 1}}))["payload"] == {"buyer": {"card": 1}}


def test_a_text_about_a_row_is_masked_by_all_its_fields_and_withheld_if_the_event_was_edited():
    redactor = Redactor(["payload.card", "iban"])
    said = f"{CARD} from DE1234"
    assert redactor.text_of_row(said, row(other={"iban": "DE1234"})) == f"{MASK} from {MASK}"
    assert redactor.text_of_row(said, row(letter_version=2)) == WITHHELD
    assert redactor.text_of_row(said, None) == WITHHELD
    assert Redactor([]).text_of_row(said, None) == said


def test_keys_are_masked_where_a_field_is():
    keys = [{"order_key": CARD, "event_id": "e"}]
    assert shown(keys, Redactor(["card"])) == [{"order_key": MASK, "event_id": "e"}]
    assert shown(keys, Redactor([])) == keys


def test_the_trail_names_searches_without_their_values():
    chosen = Selection(types=frozenset({"a"}), text=CARD, payload=(f'{{"card": "{CARD}"}}',))
    assert about(chosen, "x") == "types=a text payload in x"
