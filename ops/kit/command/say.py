"""The one way in which commands speak: whatever stands in the text, it cannot drive the terminal."""

from typing import IO, Any

import click

from unlost.ops.kit.telemetry.printable import printable_json, printable_lines


def say(text: str = "", *, err: bool = False, file: IO[Any] | None = None) -> None:
    """Print text of one line or several."""
    click.echo(printable_lines(text), err=err, file=file)


def say_json_text(text: str) -> None:
    """Print JSON as it is, but for characters that would drive a terminal: these stand as their escapes."""
    click.echo(printable_json(text))
