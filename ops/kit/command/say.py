"""Every command prints through this module: no text, whatever it contains, can control the terminal."""

from typing import IO, Any

import click

from unlost.ops.kit.telemetry.printable import printable_json, printable_lines


def say(text: str = "", *, err: bool = False, file: IO[Any] | None = None) -> None:
    """Print one or more lines of text."""
    click.echo(printable_lines(text), err=err, file=file)


def say_json_text(text: str) -> None:
    """Print JSON unchanged, except that characters that could control a terminal are written as JSON escapes."""
    click.echo(printable_json(text))
