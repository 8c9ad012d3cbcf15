"""Values from outside a profile: ``${NAME}``, ``${NAME:-default}`` and ``file:PATH``."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = re.compile(r"\$\{(\w+)(?::-((?:[^}\\]|\\.)*))?\}")
FILE = "file:"
LARGEST_FILE = 65_536
SHORTEST_SECRET = 6
"""A shorter value is not masked: it would be found everywhere."""


class Variables:
    """Fills in these values, and remembers those that must be masked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._secrets: set[str] = set()

    def fill(self, text: str) -> str:
        """Return the text with all values; ``ValueError`` says which is missing."""
        if text.startswith(FILE):
            return self._keep_secret(_contents(Path(text[len(FILE) :])))
        return NAME.sub(self._value, text)

    def fill_all(self, value: Any) -> Any:
        """Fill in each text within decoded TOML."""
        return _each_text(value, self.fill)

    def mistakes(self, value: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Find each text that cannot be filled in: where it stands, and why."""
        yield from _mistakes(value, self.fill, ())

    def hide(self, text: str) -> str:
        """Mask all values from outside."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _value(self, found: "re.Match[str]") -> str:
        name, default = found.groups()
        if value := self._environment.get(name):
            return self._keep_secret(value)
        if default is None:
            raise ValueError(f"the environment variable {name} is not set")
        return str(default).replace("\\}", "}")

    def _keep_secret(self, value: str) -> str:
        if len(value) >= SHORTEST_SECRET:
            self._secrets.add(value)
        return value


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        text = data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not text or len(data) > LARGEST_FILE:
        raise ValueError(f"{path} must hold a value of 1 to {LARGEST_FILE:,} bytes")
    return text


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _each_text(one, change) for key, one in value.items()}
        case list():
            return [_each_text(one, change) for one in value]
        case _:
            return value


def _mistakes(
    value: Any, change: Callable[[str], str], at: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    match value:
        case str():
            try:
                change(value)
            except ValueError as error:
                yield at, str(error)
        case dict():
            for key, one in value.items():
                yield from _mistakes(one, change, (*at, key))
        case list():
            for number, one in enumerate(value):
                yield from _mistakes(one, change, (*at, number))
