"""The verdict: turns an observation into a result for programs, and reasons for people. Pure."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from unlost.ops.faults.drills.drill import Bars
from unlost.ops.kit.telemetry.counted import counted

NEITHER = (
    "accepted event is neither a row nor a dead letter", "accepted events are neither rows nor dead letters",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Observed:
    """The observations of a drill. ``errors``: sentences about anything that disturbed the drill itself."""

    drill: str
    published: int
    rows: int
    lost: int
    doubled: int
    letters: int
    letters_after_replay: int
    extra_handler_runs: int
    seconds_to_progress: float | None
    seconds_to_recover: float | None
    seconds_in_flight: float | None = None
    seconds_to_take_over: float | None = None
    seconds_p99_before: float | None = None
    seconds_p99_during: float | None = None
    upgraded_from: str | None = None
    felt: bool = True
    lease: float = 30.0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The result that ``--json`` writes."""

    drill: str
    published: int
    rows: int
    lost: int
    doubled: int
    letters: int
    letters_after_replay: int
    extra_handler_runs: int
    seconds_to_progress: float | None
    seconds_to_recover: float | None
    seconds_p99_before: float | None
    """From publishing to the row, before the damage; None if the drill does not compare it."""
    seconds_p99_during: float | None
    upgraded_from: str | None
    """The earlier version, if the drill is an upgrade."""
    passed: bool

    def as_json(self) -> dict[str, object]:
        """The result as a mapping."""
        return asdict(self)


def judge(seen: Observed, bars: Bars) -> tuple[DrillResult, list[str]]:
    """Return the result, and the reasons why the drill failed (none if it passed)."""
    reasons = [*seen.errors, *_law(seen), *_letters(seen, bars), *_work(seen, bars), *_times(seen, bars)]
    result = DrillResult(
        drill=seen.drill,
        published=seen.published,
        rows=seen.rows,
        lost=seen.lost,
        doubled=seen.doubled,
        letters=seen.letters,
        letters_after_replay=seen.letters_after_replay,
        extra_handler_runs=seen.extra_handler_runs,
        seconds_to_progress=_rounded(seen.seconds_to_progress),
        seconds_to_recover=_rounded(seen.seconds_to_recover),
        seconds_p99_before=_rounded(seen.seconds_p99_before),
        seconds_p99_during=_rounded(seen.seconds_p99_during),
        upgraded_from=seen.upgraded_from,
        passed=not reasons,
    )
    return result, reasons


def _law(seen: Observed) -> Iterator[str]:
    if not seen.published:
        yield "nothing was published, so nothing was proved"
    if seen.lost:
        yield counted(seen.lost, *NEITHER)
    if seen.doubled:
        yield f"{counted(seen.doubled, 'event')} took effect twice"
    if seen.rows + seen.letters_after_replay < seen.published and not seen.lost:
        yield f"{seen.rows} rows and {seen.letters_after_replay} letters do not make {seen.published} events"


def _letters(seen: Observed, bars: Bars) -> Iterator[str]:
    if seen.letters and bars.letters == "none":
        yield f"{counted(seen.letters, 'dead letter')}, and none is expected here"
    if not seen.letters and bars.letters == "some":
        yield "no dead letter was written, and some are expected here"
    if seen.letters_after_replay:
        yield f"{counted(seen.letters_after_replay, 'dead letter is', 'dead letters are')} left after the replay"


def _work(seen: Observed, bars: Bars) -> Iterator[str]:
    if seen.extra_handler_runs and not bars.extra_runs:
        yield f"{seen.extra_handler_runs} handler runs beyond one per event, though no owner was killed or frozen"
    if bars.felt and not seen.felt:
        yield "no listener reported the damage, so nothing was proved"


def _times(seen: Observed, bars: Bars) -> Iterator[str]:
    take_over = None if bars.takeover is None else seen.lease + bars.takeover
    if take_over is not None and seen.seconds_to_take_over is None:
        yield "no event was taken over, so nothing was proved"
    for what, seconds, bar in (
        ("events flowed again", seen.seconds_to_progress, bars.progress),
        ("all was back to normal", seen.seconds_to_recover, bars.recover),
        ("the last event in flight was stored", seen.seconds_in_flight or 0.0, bars.pause),
        ("the lost owner's last event was stored", seen.seconds_to_take_over or 0.0, take_over),
    ):
        if bar is not None and seconds is None:
            yield f"it was never observed that {what}"
        elif bar is not None and seconds is not None and seconds > bar:
            yield f"{what} after {seconds:.1f} s; {bar:g} s are allowed"
    if bars.slower is not None:
        yield from _slower(seen, bars.slower)


def _slower(seen: Observed, times: float) -> Iterator[str]:
    before, during = seen.seconds_p99_before, seen.seconds_p99_during
    if before is None or during is None:
        yield "too few events were stored before the damage, or meanwhile, to compare p99; publish more (--events)"
    elif during > before * times:
        yield f"p99 was {during:.3f} s meanwhile and {before:.3f} s before; {times:g} times as long is allowed"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
