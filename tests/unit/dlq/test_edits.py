"""An edit makes of a letter the next version, the same again, or a refusal."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.letters import invalid, letter
from unlost.dlq.edit.change import CannotEdit, EventChange, FunctionChange, PatchChange
from unlost.dlq.edit.versions import proposed
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_state import OPEN, Edit, Record
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.errors import Misconfigured


def patch(*steps: dict[str, Any]) -> PatchChange:
    return PatchChange(json.dumps(steps).encode())


def more(payload: dict[str, Any]) -> dict[str, Any]:
    return payload | {"n": payload["n"] + 1}


def renamed(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"type": "order.created"}


MORE, RENAMED = FunctionChange("shop:more", more), FunctionChange("shop:renamed", renamed)


def run(one: Letter, *changes: EventChange) -> tuple[list[Edit], list[dict[str, Any]]]:
    """The versions that these changes make, one after the other."""
    history: list[Record] = []
    made: list[Edit] = []
    for number, change in enumerate(changes):
        found = proposed(LetterEntry(one, OPEN), history, change)
        if found is not None:
            made.append(found.edit)
            history.append(Record(one.letter_id, "edited", float(number), edit=found.edit))
    return made, [json.loads(edit.event) for edit in made]


def test_a_function_gets_the_payload_or_the_event_and_each_version_names_its_base() -> None:
    made, events = run(letter("a", more=[1]), MORE, RENAMED)
    assert [(one.version, one.base, one.how) for one in made] == [(2, 1, "shop:more"), (3, 2, "shop:renamed")]
    assert events[1] == {"event_id": "a", "payload": {"n": 2}, "more": [1], "type": "order.created"}


def test_a_repeated_edit_makes_no_second_version() -> None:
    append = patch(
        {"op": "add", "path": "/payload/tags", "value": []}, {"op": "add", "path": "/payload/tags/-", "value": 1}
    )
    for change in (MORE, append):
        made, _ = run(letter("a"), change, change, change)
        assert [one.version for one in made] == [2]
    made, events = run(letter("a"), MORE, RENAMED, RENAMED, MORE)
    assert [(one.version, one.base) for one in made] == [(2, 1), (3, 2), (4, 3)]
    assert events[-1]["payload"] == {"n": 3}, "after another edit it starts from that"


def test_a_corrected_function_starts_from_the_same_version_again() -> None:
    corrected = FunctionChange("shop:more", lambda payload: payload | {"n": 10})
    made, events = run(letter("a"), MORE, corrected)
    assert [(one.version, one.base) for one in made] == [(2, 1), (3, 1)]
    assert events[-1]["payload"] == {"n": 10}


def test_an_edit_that_changes_nothing_makes_no_version() -> None:
    nothing = FunctionChange("shop:nothing", lambda payload: None)
    same = FunctionChange("shop:same", lambda event: dict(reversed(event.items())))
    number = patch({"op": "replace", "path": "/payload/n", "value": 1.0})
    assert run(letter("a"), nothing, same, number) == ([], [])
    assert len(run(letter("a"), patch({"op": "replace", "path": "/payload/n", "value": True}))[0]) == 1


def test_a_patch_keeps_every_number_as_it_was_written() -> None:
    one = letter("a")
    precise = (
        b'{"event_id":"a","payload":{"n":1,"x":0.12345678901234567890,"y":1.10,"z":123456789012345678901234567890}}'
    )
    one = replace(one, event=precise)
    (edit,), _ = run(one, patch({"op": "replace", "path": "/payload/n", "value": 2}))
    assert edit.event == precise.replace(b'"n":1,', b'"n":2,')


def test_an_event_without_payload_or_id_stays_the_same_event() -> None:
    event = b'{"n": 1}'
    one = letter("a")
    one = Letter(
        **{name: getattr(one, name) for name in one.__struct_fields__} | {"event": event, "event_id": "c0ffee"}
    )
    _, events = run(one, MORE)
    assert events == [{"event_id": "c0ffee", "n": 2}]


def test_a_letter_without_an_event_may_be_replaced_as_a_whole() -> None:
    whole = patch({"op": "replace", "path": "", "value": {"event_id": "d", "payload": 1}})
    assert run(invalid("d", b"\xffno json"), whole)[1] == [{"event_id": "d", "payload": 1}]
    doubled = invalid("d", b'{"event_id": "d", "payload": 1, "payload": 2}')
    assert run(doubled, patch({"op": "replace", "path": "/payload", "value": 3}))[1] == [
        {"event_id": "d", "payload": 3}
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (patch({"op": "replace", "path": "/event_id", "value": "b"}), "an edit keeps the id"),
        (patch({"op": "replace", "path": "/payload/none", "value": 1}), "there is no 'none'"),
        (patch({"op": "replace", "path": "", "value": [1]}), "not valid"),
        (patch({"op": "add", "path": "/payload/x", "value": "\x00"}), "U0000|u0000"),
        (patch({"op": "add", "path": "/payload/x", "value": "x" * 4_200_000}), "4,194,304 are allowed"),
        (FunctionChange("shop:f", lambda payload: payload["sku"]), "shop:f raised KeyError: 'sku'"),
        (FunctionChange("shop:f", lambda payload: {1, object()}), "cannot be written as JSON"),
        (FunctionChange("shop:f", lambda payload: 1 / 0), "ZeroDivisionError"),
    ],
)
def test_an_edit_that_makes_no_event_is_refused_with_the_reason(change: EventChange, why: str) -> None:
    with pytest.raises(CannotEdit, match=why):
        run(letter("a"), change)
    with pytest.raises(CannotEdit, match="no JSON object"):
        run(invalid("d", b"no json"), MORE)


def test_a_letter_of_an_effect_is_not_edited() -> None:
    with pytest.raises(CannotEdit, match="of an effect"):
        run(replace(letter("a"), effect=1), MORE)


def test_a_letter_has_so_many_versions_and_no_more() -> None:
    changes = [patch({"op": "replace", "path": "/payload/n", "value": n}) for n in range(200, 301)]
    with pytest.raises(CannotEdit, match="100 versions already"):
        run(letter("a"), *changes)


@pytest.mark.parametrize(
    ("function", "why"),
    [(None, "no such function"), (lambda: 1, "not 0 parameters"), (lambda a, b: 1, "not 2 parameters")],
)
def test_a_function_of_another_form_is_refused(function: Any, why: str) -> None:
    async def late(payload: object) -> None:
        """Nothing."""

    with pytest.raises(Misconfigured, match=why):
        FunctionChange("shop:f", function)
    with pytest.raises(Misconfigured, match="async def"):
        FunctionChange("shop:f", late)
