"""Every command explains itself, and each example that it gives is understood by it."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from dlq.cli import main as dlq
from listener.cli import main as listener
from ops.cli import main as ops
from ops.command.kit import CommandGroup, SettingsCommand
from ops.toxics.__main__ import toxics
from producer.cli import main as producer


def commands() -> Iterator[tuple[str, click.Command]]:
    yield "python -m ops.toxics", toxics
    for name, command in (("dlq", dlq), ("listener", listener), ("ops", ops), ("producer", producer)):
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", one) for sub, one in command.commands.items())


def arguments_of(example: str, name: str) -> list[str] | None:
    """What the shell would give the command, or None where the example is one of another program."""
    words = shlex.split(re.split(r"[|>]", example)[0])
    while re.match("[A-Z_]+=", words[0]):
        del words[0]
    return words[len(name.split()) :] if " ".join(words).startswith(name) else None


@pytest.mark.parametrize(("name", "command"), [pytest.param(*one, id=one[0]) for one in commands()])
def test_help_says_what_it_does_and_its_examples_are_understood(name: str, command: click.Command):
    assert isinstance(command, SettingsCommand | CommandGroup)
    assert command.help
    assert command.examples
    understood = [arguments for example in command.examples if (arguments := arguments_of(example, name)) is not None]
    assert understood, "no example shows the command itself"
    for arguments in understood:
        if isinstance(command, CommandGroup):
            command.commands[arguments[0]].make_context(arguments[0], arguments[1:])
        else:
            command.make_context(name, arguments)
