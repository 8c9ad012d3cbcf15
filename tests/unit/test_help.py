"""Every command has help, and accepts each example in it."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from unlost.dlq.commands.cli import main as dlq
from unlost.ops.cli import main as unlost
from unlost.ops.faults.toxics.__main__ import toxics
from unlost.ops.kit.command.kit import SettingsCommand
from unlost.ops.kit.groups import CommandGroup, LazyGroup


def commands() -> Iterator[tuple[str, click.Command]]:
    yield "python -m unlost.ops.faults.toxics", toxics
    yield from named("dlq", dlq)
    yield from named("unlost", unlost)


def named(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The command, and all commands within it."""
    yield name, command
    if isinstance(command, click.Group):
        for sub in command.list_commands(click.Context(command)):
            if f"{name} {sub}" != "unlost dlq":
                yield from named(f"{name} {sub}", within(command, sub))


def within(group: click.Group, name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command
    return command


def arguments_of(example: str, name: str) -> list[str] | None:
    """The arguments that a shell would pass, or None if the example is of another program."""
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
    assert understood, "no example uses the command itself"
    for arguments in understood:
        if isinstance(command, CommandGroup):
            within(command, arguments[0]).make_context(arguments[0], arguments[1:])
        else:
            command.make_context(name, arguments)


@pytest.mark.parametrize("group", [unlost, dlq], ids=["unlost", "dlq"])
def test_the_list_of_commands_has_the_first_sentence_of_each(group: click.Group):
    assert isinstance(group, LazyGroup)
    listed = {name: about for section in group.sections.values() for name, (_, about) in section.items()}
    assert listed == {name: within(group, name).get_short_help_str(300) for name in listed}


def test_a_shell_completes_names_of_commands():
    completed = unlost.shell_complete(click.Context(unlost), "p")
    assert [one.value for one in completed] == ["producer", "pause", "pauses"]
