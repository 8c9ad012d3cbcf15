"""The traceback of a handler's error as text, short enough for a letter. The user's frames come first.

Our own frames, through which each handler is called, are left out. If there are too many frames, those of libraries are
dropped first. The outermost and the innermost of the rest stay.
"""

import sysconfig
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from unlost.listener.core.shortened import ends_of

MOST_FRAMES = 20
LONGEST = 4_000
TAIL = 1_500
"""A text that is too long keeps its beginning and its end, where the error itself stands."""

REMEMBERED = 256
"""How many formatted tracebacks are kept."""

_OURS = str(Path(__file__).parents[1])
_BORDER = str(Path(_OURS, "pipeline", "handlers.py"))
"""Frames after this file are the user's code."""
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {"<frozen"})

Frames = Sequence[traceback.FrameSummary]


def traceback_of(error: BaseException) -> str | None:
    """Return the traceback of ``error``, or None if none of the user's code is in it."""
    captured = traceback.TracebackException.from_exception(error, compact=True, limit=0)
    has_frames = False
    for one, raised in _chain(captured, error):
        one.stack = stack = _stack_of(raised.__traceback__)
        has_frames = has_frames or bool(stack)
    if not has_frames:
        return None
    text = "".join(captured.format()).rstrip()
    return text if len(text) <= LONGEST else "\n[…]\n".join(ends_of(text, LONGEST - TAIL, TAIL))


def _chain(
    captured: traceback.TracebackException, error: BaseException
) -> Iterator[tuple[traceback.TracebackException, BaseException]]:
    """Return all errors of a chain, each as captured and as raised."""
    yield captured, error
    inner: list[tuple[traceback.TracebackException | None, BaseException | None]] = [
        (captured.__cause__, error.__cause__),
        (None if captured.__suppress_context__ else captured.__context__, error.__context__),
    ]
    if captured.exceptions and isinstance(error, BaseExceptionGroup):
        inner += zip(captured.exceptions, error.exceptions, strict=False)
    for one, raised in inner:
        if one is not None and raised is not None:
            yield from _chain(one, raised)


class _Stack(traceback.StackSummary):
    """The most useful frames, formatted once."""

    def __init__(self, frames: Frames) -> None:
        super().__init__(frames)
        self._lines = super().format()

    def format(self, **_how: object) -> list[str]:
        """Return the lines. Python 3.13 asks for colours or none; a letter has none."""
        return self._lines


_stacks: dict[tuple[object, ...], _Stack] = {}
"""Formatted stacks by their places in the code. A handler fails at few places, and formatting is expensive."""


def _stack_of(raised_at: types.TracebackType | None) -> _Stack:
    places = tuple((one.tb_frame.f_code, one.tb_lasti) for one in _each(raised_at))
    found = _stacks.get(places)
    if found is None:
        if len(_stacks) >= REMEMBERED:
            _stacks.clear()
        found = _stacks[places] = _Stack(_shortened(traceback.extract_tb(raised_at)))
    return found


def _each(one: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while one is not None:
        yield one
        one = one.tb_next


def _shortened(frames: list[traceback.FrameSummary]) -> Frames:
    """Return the most useful frames."""
    while frames and frames[-1].filename == _BORDER:  # where a cancellation came from
        del frames[-1]
    while frames and (frames[0].filename.startswith(_OURS) or any(one.filename == _BORDER for one in frames)):
        del frames[0]
    return _chosen(frames)


def _chosen(frames: Frames) -> Frames:
    if len(frames) <= MOST_FRAMES:
        return frames
    home = _home(frames[0].filename)
    users = [i for i, frame in enumerate(frames) if _is_users(frame.filename, home)]
    others = [i for i in range(len(frames)) if i not in set(users)]
    kept = {*_ends(users, MOST_FRAMES), *_ends(others, MOST_FRAMES - len(users))}
    return [frame for i, frame in enumerate(frames) if i in kept]


def _ends(numbers: Sequence[int], most: int) -> Sequence[int]:
    """Keep ``most`` numbers: as many of the first as of the last."""
    if len(numbers) <= most:
        return numbers
    return [*numbers[: most // 2], *numbers[len(numbers) - (most - most // 2) :]] if most > 0 else []


def _home(filename: str) -> str:
    """Return the directory of the handler's package. Even installed beside libraries, it is the user's code."""
    directory = Path(filename).parent
    while (directory / "__init__.py").exists():
        directory = directory.parent
    package = Path(filename).relative_to(directory).parts[0]
    return str(directory / package)


def _is_users(filename: str, home: str) -> bool:
    return filename.startswith(home) or not filename.startswith(_LIBRARIES)
