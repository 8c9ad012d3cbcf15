"""The command ``unlost handlers``: which function takes which events."""

from collections.abc import Sequence

import click
import msgspec
from pydantic import Field

from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.finding import find_handler
from unlost.listener.routing.listing import ListedRoute, listed
from unlost.ops.kit.command import Settings, UsageProblem, command, say, say_json_text


class HandlersSettings(Settings):
    """Which handler."""

    handler: str = Field("", description="package.module:object, as a listener's")


_name = click.Argument(["name"], required=False, metavar="[HANDLER]")
_as_json = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


@command(
    HandlersSettings,
    name="handlers",
    examples=["unlost handlers shop:app", "HANDLER=shop:app unlost handlers", "unlost handlers shop:app --json"],
    params=[_name, _as_json],
)
def handlers(settings: HandlersSettings, name: str | None, as_json: bool) -> int:
    """List the routes of HANDLER in the order in which an event tries them, and check it as a listener does.

    The lifespan is not entered: names of resources are checked by a listener alone.
    """
    name = name or settings.handler
    if not name:
        raise UsageProblem("name a handler: unlost handlers package.module:object, or HANDLER")
    try:
        routes = listed(find_handler(name))
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    if as_json:
        say_json_text(msgspec.json.format(msgspec.json.encode(routes), indent=2).decode())
    else:
        for line in _table(routes):
            say(line)
    return 0


def _table(routes: Sequence[ListedRoute]) -> list[str]:
    """Align the columns that say something."""
    columns = [name for name in ListedRoute.__struct_fields__ if any(getattr(one, name) is not None for one in routes)]
    rows = [columns, *([_cell(getattr(one, name)) for name in columns] for one in routes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
