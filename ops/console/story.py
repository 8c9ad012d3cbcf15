"""The story of one event: everything that the parts of the system know of it, on one timeline. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

SAME_SECONDS = 0.1


class StoryStep(msgspec.Struct, frozen=True):
    """One thing that happened to an event, and which part reported it."""

    at: float
    who: str
    what: str
    detail: str = ""


def steps(
    journal: Mapping[str, Any] | None,
    row: Mapping[str, Any] | None,
    listeners: Sequence[Mapping[str, Any]],
    letters: Sequence[Mapping[str, Any]],
) -> list[StoryStep]:
    """All steps in order of time."""
    written = list(_of_letters(letters))
    outcomes = [one for one in _of_listeners(listeners) if not _is_written(one, written)]
    return sorted([*_of_journal(journal), *_of_row(row), *outcomes, *written], key=lambda one: one.at)


def _is_written(step: StoryStep, written: Sequence[StoryStep]) -> bool:
    """Whether a letter records this step too, with more details."""
    same = {"failed": "attempt failed", "buried": "dead letter"}.get(step.what)
    return any((one.what, one.who) == (same, step.who) and abs(one.at - step.at) < SAME_SECONDS for one in written)


def sentence(
    event_id: str,
    journal: Mapping[str, Any] | None,
    row: Mapping[str, Any] | None,
    listeners: Sequence[Mapping[str, Any]],
    letters: Sequence[Mapping[str, Any]],
) -> str:
    """How the event ended, in one sentence."""
    if row is not None:
        took = _moment(row["processed_at"]) - _moment(row["received_at"])
        tries = "at the first attempt" if row["attempts"] <= 1 else f"after {row['attempts']} attempts"
        over = f", taken over {row['epoch'] - 1} times" if row["epoch"] > 1 else ""
        return f"Stored by {row['instance_id']} {tries}, {took * 1000:,.0f} ms after it came in{over}."
    open_letters = [one for one in letters if one["state"]["status"] != "resolved"]
    if open_letters:
        one = open_letters[-1]
        state = one["state"]["status"]
        todo = {
            "archived": "It was archived; restore it to replay it.",
            "quarantined": "It is in quarantine. Fix the cause, restore it, and replay it.",
        }.get(state, "Fix the cause and replay it.")
        return f"A dead letter of {one['instance']} ({_failure(one)}). {todo}"
    holding = [one for one in listeners if one.get("in_flight")]
    if holding:
        names = ", ".join(f"{one['instance']} ({one['in_flight']['state']})" for one in holding)
        return f"On its way: in the memory of {names}."
    if journal is not None:
        return "Accepted and in the journal; no listener has taken it yet."
    return f"Nobody knows an event {event_id!r}: no journal, no listener, no row, no letter."


def _of_journal(journal: Mapping[str, Any] | None) -> Iterator[StoryStep]:
    if journal is not None:
        yield StoryStep(float(journal["at"]), "producer", "accepted", f"cursor {journal['cursor']}")


def _of_row(row: Mapping[str, Any] | None) -> Iterator[StoryStep]:
    if row is not None:
        detail = f"row {row['seq']}, by {row['instance_id']}, epoch {row['epoch']}, attempts {row['attempts']}"
        yield StoryStep(_moment(row["processed_at"]), "PostgreSQL", "row", detail)


def _of_listeners(listeners: Sequence[Mapping[str, Any]]) -> Iterator[StoryStep]:
    for one in listeners:
        for step in one.get("recent", ()):
            yield StoryStep(float(step["at"]), one["instance"], str(step["what"]), str(step["detail"]))
        held = one.get("in_flight")
        if held:
            yield StoryStep(float(held["received_at"]), one["instance"], "in memory", f"as {held['state']}")


def _of_letters(letters: Sequence[Mapping[str, Any]]) -> Iterator[StoryStep]:
    for one in letters:
        for attempt in one.get("attempts", ()):
            detail = f"{attempt['stage']}: {attempt['error_type']}: {attempt['message']}"
            yield StoryStep(_moment(attempt["at"]), one["instance"], "attempt failed", detail)
        yield StoryStep(_moment(one["last_at"]), one["instance"], "dead letter", _failure(one))
        state = one["state"]
        if state["at"]:
            yield StoryStep(_moment(state["at"]), "replay", state["status"], state["detail"])


def _failure(letter: Mapping[str, Any]) -> str:
    return f"{letter['reason']}: {letter['error_type']}: {letter['message']}"


def _moment(at: Any) -> float:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return float(at.timestamp())
