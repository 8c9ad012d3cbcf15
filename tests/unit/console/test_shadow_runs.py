"""A shadow replay that the console runs: its lines become sums, and the letters that would not succeed."""

from typing import Any

from unlost.ops.console.replays import MOST_SHADOWS, Part, ReplayRequest, take_in


def letter(outcome: str) -> dict[str, Any]:
    about = {"letter_id": "l", "event_id": "e", "version": 1, "outcome": outcome, "error_type": "X", "message": "m"}
    return {"letter": about | {"wrote": {}}}


def test_it_is_counted_letter_by_letter_and_ends_with_the_sums() -> None:
    part = Part("")
    sums = {"succeeds": 1, "fails_the_same": MOST_SHADOWS + 5, "wrote": {"orders": {"inserted": 1}}, "exit_code": 1}
    for message in (letter("succeeds"), *[letter("fails_the_same")] * (MOST_SHADOWS + 5), sums):
        take_in(part, message, masks=False)
    assert part.shadowed == MOST_SHADOWS + 6
    assert len(part.shadows) == MOST_SHADOWS
    assert part.shadows[0] == {
        "letter_id": "l", "event_id": "e", "outcome": "fails_the_same", "error_type": "X", "message": "m",
    }  # fmt: skip
    assert part.report["wrote"] == {"orders": {"inserted": 1}}
    assert ReplayRequest(shadow=True, limit=3).arguments(0.0) == ["--shadow", "--limit=3"]


def test_if_fields_are_masked_texts_of_failures_are_dropped() -> None:
    part = Part("")
    take_in(part, {"plan": {"letters": 2}, "progress": {"resolved": 1, "failures": {"card 4111": 1}}}, masks=True)
    assert (part.plan, part.report) == ({"letters": 2}, {"resolved": 1, "failures": {}})
