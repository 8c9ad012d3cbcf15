"""The letters that a request to the console names."""

import pytest
from starlette.datastructures import QueryParams

from unlost.dlq.record.query import Selection
from unlost.ops.console.replays import ReplayRequest
from unlost.ops.console.selecting import LettersRequest, Selecting, SelectionRefused, filters_of
from unlost.ops.kit.telemetry.redact import Redactor

NOW = 1_800_000_000.0
OPEN = Selecting(Redactor([]))
MASKING = Selecting(Redactor(["Card", "pay.iban"]))


def test_an_address_names_every_filter() -> None:
    query = QueryParams(
        "state=open,failed&type=a,b&type=c&since=2h&until=2026-01-31T12:00Z&begins=o&text=t&payload=p=1"
    )
    assert OPEN.filtered(filters_of(query), NOW) == Selection(
        types=frozenset({"a,b", "c"}), statuses=frozenset({"open", "failed"}), since=NOW - 7200, until=1_769_860_800.0,
        begins="o", text="t", payload=('{"p": 1}', '{"p": "1"}'),
    )  # fmt: skip


@pytest.mark.parametrize("query", ["since=soon", "until=1e99d", "payload=x", f"text={'x' * 2001}"])
def test_a_wrong_filter_is_refused(query: str) -> None:
    with pytest.raises(SelectionRefused):
        OPEN.filtered(filters_of(QueryParams(query)), NOW)


@pytest.mark.parametrize(
    "query", ["text=4111", "payload=card=4111", 'payload=[{"pay": {"CARD": 1}}]', "payload=pay.iban=DE1"]
)
def test_masked_fields_cannot_be_guessed_by_searching(query: str) -> None:
    with pytest.raises(SelectionRefused, match="masked"):
        MASKING.filtered(filters_of(QueryParams(query)), NOW)
    OPEN.filtered(filters_of(QueryParams(query)), NOW)
    MASKING.filtered(filters_of(QueryParams("payload=order.iban=1&begins=4111")), NOW)


def test_all_letters_are_meant_only_if_the_request_says_so() -> None:
    with pytest.raises(SelectionRefused, match="everything"):
        OPEN.named(LettersRequest(), NOW)
    assert OPEN.named(LettersRequest(everything=True), NOW).everything
    with pytest.raises(SelectionRefused, match="whole ids"):
        OPEN.named(LettersRequest(ids=("short",)), NOW)


def test_a_replay_gets_the_same_filters_as_flags_and_as_words() -> None:
    asked = ReplayRequest(types=("a",), states=("open",), since="1h", payload="p=1", fingerprint="f", rate=2)
    assert asked.arguments(NOW) == [
        "--type=a", "--state=open", "--since=2027-01-15T07:00:00.000000Z", "--fingerprint=f", "--payload=p=1",
        "--rate=2",
    ]  # fmt: skip
    assert asked.about() == "fingerprint=f types=a states=open since=1h payload in the list"
    assert ReplayRequest(file="x", everything=True).about() == "all in x"
