"""The traceback of a handler's error as text, short enough for a letter. The user's frames come first.

Our own frames, through which each handler is called, are left out. If there are too many frames, those of libraries are
dropped first. Of the rest, the outermost and the innermost stay.
"""

import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

MOST_FRAMES = 20
LONGEST = 4_000
TAIL = 1_500
"""A text that is too long keeps its beginning and its end, where the error itself stands."""

_OURS = str(Path(__file__).parents[1])
_BORDER = str(Path(_OURS, "pipeline", "handlers.py"))
"""Frames after this file are the user's code."""
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {"<frozen"})

Frames = Sequence[traceback.FrameSummary]


def traceback_of(error: BaseException) -> str | None:
    """Return the traceback of ``error``, or None if none of the user's code is in it."""
    captured = traceback.TracebackException.from_exception(error, compact=True)
    shortened = [_shorten(one) for one in _chain(captured)]
    if not any(shortened):
        return None
    text = "".join(captured.format()).rstrip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - TAIL]}\n[…]\n{text[-TAIL:]}"


def _chain(captured: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    yield captured
    for one in (
        captured.__cause__,
        None if captured.__suppress_context__ else captured.__context__,
        *(captured.exceptions or ()),
    ):
        if one is not None:
            yield from _chain(one)


def _shorten(captured: traceback.TracebackException) -> bool:
    """Keep the most useful frames; return whether there are any."""
    frames = list(captured.stack)
    while frames and frames[-1].filename == _BORDER:  # where a cancellation came from
        del frames[-1]
    while frames and (frames[0].filename.startswith(_OURS) or any(one.filename == _BORDER for one in frames)):
        del frames[0]
    captured.stack[:] = _chosen(frames)
    return bool(frames)


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
