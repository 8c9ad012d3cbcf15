"""Redacted fields are masked at any depth, in texts that quote them, and in unparsable input."""

import json

from hypothesis import given
from hypothesis import strategies as st

from unlost.dlq.record.letter import letter_for, letter_for_frame, shown
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import parse
from unlost.ops.console.redact import MASK, UNREADABLE, WITHHELD, Redactor

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
    told = Redactor(["card", "IBAN"]).value({"a": [{"card": [1, {"x": 2}]}], "iban": None, "Card": 1, "total": 3})
    assert told == {"a": [{"card": MASK}], "iban": MASK, "Card": MASK, "total": 3}


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
def test_what_stands_below_a_masked_name_is_nowhere_in_what_is_shown(value: object):
    told = json.dumps(Redactor(["hidden"]).value({"hidden": value, "beside": 1}))
    assert "SECRET" not in told


def test_a_letter_shows_its_masked_values_nowhere():
    event = {"event_id": "e", "payload": {"card": CARD, "pin": 12345, "total": 1}}
    told = Redactor(["card", "pin"]).letter(letter(f"card {CARD} with pin 12345 refused for 1", event))
    text = json.dumps({**shown(told), "event": told.event.decode()})
    assert CARD not in text
    assert "12345" not in text
    assert told.message == f"card {MASK} with pin {MASK} refused for 1"
    assert json.loads(told.event)["payload"] == {"card": MASK, "pin": MASK, "total": 1}


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
    told = Redactor(["card"]).letter(frame)
    assert told.raw == UNREADABLE
    assert told.message == WITHHELD


def test_a_text_about_unknown_content_is_withheld_only_where_something_is_masked():
    assert Redactor(["card"]).unknown("handle: refused") == WITHHELD
    assert Redactor(["card"]).unknown("") == ""
    assert Redactor([]).unknown("handle: refused") == "handle: refused"
