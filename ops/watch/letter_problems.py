"""Problems of dead letters. Pure."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from unlost.ops.watch.picture import FailureGroup, Picture
from unlost.ops.watch.problem import Problem, count, earliest

MOST_KINDS = 3
HUNG = "HandlerTimeout"
EFFECT = "effect"
"""The reason of letters whose events are rows already."""


def of_letters(picture: Picture) -> Iterator[Problem]:
    """Letters that wait, and files that cannot be read."""
    if any(one.needs_human for one in picture.letter_files):
        yield _waiting(picture)
    if parked := sum(one.by_state.get("quarantined", 0) for one in picture.letter_files):
        yield Problem(
            key="quarantine", level="warn",
            what=count(parked, "1 dead letter is", "dead letters are") + " in quarantine",
            affected="No replay takes them, and they do not heal by themselves.",
            todo="Fix the cause and restore them, or archive them with a reason.",
            commands=("dlq list --state quarantined",), runbook="UnlostLetterWaits",
        )  # fmt: skip
    for one in picture.letter_files:
        if one.error:
            yield Problem(
                key=f"file: {one.path}", level="warn", what=f"Dead letters cannot be read: {one.error}",
                affected="They are not counted here.", todo="Correct LETTERS, or let this user read the file.",
            )  # fmt: skip
        if one.damaged:
            yield Problem(
                key=f"damaged: {one.path}", level="warn", runbook="UnlostLettersDamaged",
                what=f"{one.path} has {count(one.damaged, '1 damaged line', 'damaged lines')}",
                affected="Their neighbours are safe.", todo="See what they were, and keep a copy of the file.",
                commands=(f"dlq verify {one.path}",),
            )  # fmt: skip


def _waiting(picture: Picture) -> Problem:
    files = [one for one in picture.letter_files if one.needs_human]
    waits = sum(one.needs_human for one in files)
    oldest = earliest(one.oldest_waiting_at for one in files)
    sums: Counter[FailureGroup] = Counter()
    for one in files:
        for kind in one.kinds:
            sums[FailureGroup(kind.fingerprint, kind.reason, kind.stage, kind.error_type, 0)] += kind.waiting
    kinds = [f"{number:,} {_kind(one)}" for one, number in sums.most_common(MOST_KINDS)]
    named_files = "".join(f" {shlex.quote(one.path)}" for one in files if not one.fleet)
    growing = sum(one.rates.buried for one in picture.listeners) > 0
    more = ["and others"] if len(sums) > MOST_KINDS else []
    return Problem(
        key="letters", level="warn", since=oldest,
        what=f"{count(waits, '1 dead letter waits', 'dead letters wait')}{', and more come' * growing}{_like(sums)}",
        affected=f"They are kept, {_rows(list(sums))}: {', '.join([*kinds, *more]) or 'see under Dead letters'}.",
        todo=_todo(list(sums)),
        commands=(f"dlq groups{named_files}", f"dlq replay{named_files} --canary 10"),
        runbook="UnlostLettersGrowing" if growing else "UnlostLetterWaits",
    )  # fmt: skip


def _like(sums: Counter[FailureGroup]) -> str:
    """How most of the letters failed."""
    if not sums:
        return ""
    ((one, most),) = sums.most_common(1)
    if 2 * most <= sums.total():
        return f", of {len(sums)} kinds or more"
    return f": {'mostly ' if len(sums) > 1 else ''}{_kind(one)}"


def _kind(one: FailureGroup) -> str:
    if one.reason == EFFECT:
        return f"undelivered effect ({one.error_type})"
    return f"{one.reason} in {one.stage} ({one.error_type})"


def _rows(kinds: Sequence[FailureGroup]) -> str:
    """Whether the events of letters are rows: those of effects are."""
    effects = [one.reason == EFFECT for one in kinds]
    if effects and all(effects):
        return "and their events are rows"
    return "and are no rows yet, except those of effects" if any(effects) else "and are no rows yet"


def _todo(kinds: Sequence[FailureGroup]) -> str:
    if any(one.reason == "crash_loop" for one in kinds):
        return (
            "An event killed each process that handled it: see it under Dead letters, fix the handler, then replay it."
        )
    if any(one.error_type == HUNG for one in kinds):
        return "The handler hangs for some events, or what it calls does: see which, fix that, then replay them."
    if kinds and all(one.stage in ("store", "claim") for one in kinds):
        return "A server was away when they failed. Once it is back, replay them, a few first."
    if kinds and all(one.reason == EFFECT for one in kinds):
        return "See that the receiver takes them and that EFFECT_* are right (EFFECT_HOSTS first), then replay them."
    return (
        "See under Dead letters why they failed. Fix the cause (usually the handler) and replay them, or archive them "
        "with a reason."
    )
