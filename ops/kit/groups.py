"""Groups of commands, and what all commands have. It imports click alone, so that a sub-command is found quickly."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

Sections = Mapping[str, Mapping[str, tuple[str, str]]]
"""Commands by section and name: where each is, as ``module:attribute``, and its first sentence."""


class CommandGroup(click.Group):
    """A group of sub-commands with examples."""

    def __init__(self, *, examples: Sequence[str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """End the help with the examples."""
        write_examples(formatter, self.examples)


class LazyGroup(CommandGroup):
    """Sub-commands in sections. Each is imported only when used, because a daemon needs few of these modules."""

    def __init__(self, *, sections: Sections, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, section by section."""
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command; ``None`` if there is none of this name."""
        for section in self.sections.values():
            if cmd_name in section:
                module, _, name = section[cmd_name][0].partition(":")
                found: click.Command = getattr(import_module(module), name)
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each section with its commands and their summaries."""
        longest = max(map(len, self.list_commands(ctx)))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(longest), about) for name, (_, about) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, without importing any command."""
        about = {name: one for section in self.sections.values() for name, (_, one) in section.items()}
        found = [CompletionItem(name, help=about[name]) for name in about if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Add the section with examples, if there are any."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def main_group(
    name: str,
    commands: Iterable[click.Command],
    *,
    help: str,  # noqa: A002 - click's word
    examples: Sequence[str],
) -> click.Group:
    """A command made of sub-commands."""
    return CommandGroup(
        name=name,
        help=help,
        commands={one.name or "": one for one in commands},
        params=[version_option()],
        examples=examples,
    )


def lazy_group(
    name: str,
    sections: Sections,
    *,
    help: str,  # noqa: A002 - click's word
    examples: Sequence[str],
) -> click.Group:
    """Like ``main_group``, in sections, with sub-commands that are imported when they are used."""
    return LazyGroup(name=name, help=help, sections=sections, params=[version_option()], examples=examples)


def version_option() -> click.Option:
    """The flag ``--version``."""

    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
        if value and not ctx.resilient_parsing:
            from importlib.metadata import version

            click.echo(f"unlost {version('unlost')}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Print the version and exit.",
    )
