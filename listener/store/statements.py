"""SQL lives in ``.sql`` files; this reads them, each with the name that its ``-- name:`` line gives it."""

import functools
import re
from importlib import resources

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@functools.cache
def statements(package: str, file: str) -> dict[str, str]:
    """The statements of one file, by name."""
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    _, *parts = _HEADER.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
