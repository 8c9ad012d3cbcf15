"""Build a command from a settings class: a flag for each field, complete help, exit code 2 for wrong usage.

Nothing is written twice: flags, help, environment variables and defaults are read from the class.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from unlost.ops.kit.command.secret import PathOrUrl
from unlost.ops.kit.command.settings import Settings, flag_name
from unlost.ops.kit.groups import version_option, write_examples
from unlost.ops.kit.telemetry.mask import masked_within

S = TypeVar("S", bound=Settings)
SHOW = "--show-settings"


class SettingsCommand(click.Command):
    """A command that explains its settings. It can show them without its required arguments."""

    def __init__(self, *, examples: Sequence[str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Accept missing arguments if only the settings are to be shown."""
        if SHOW in args:
            ctx.resilient_parsing = True
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """End the help with the examples and the precedence of settings."""
        write_examples(formatter, self.examples)
        formatter.write_paragraph()
        formatter.write_text("Settings come from flags, then the environment, then .env in the working directory.")


def command(
    settings: type[S],
    *,
    name: str | None = None,
    examples: Sequence[str] = (),
    params: Iterable[click.Parameter] = (),
    daemon: bool = False,
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a command from a function, which gets the settings, then ``params`` by name; an int is its exit code.

    ``daemon``: the function imports most of what runs. Garbage is collected once all is loaded (``run_daemon``).
    """

    def wrap(function: Callable[..., int | None]) -> click.Command:
        own = list(params)
        options = [_option(field, info) for field, info in settings.model_fields.items()]
        taken = {text for param in (*own, *options) for text in param.opts}
        extra = [click.Option([SHOW], is_flag=True, help="Print the effective settings, secrets masked, and exit.")]
        if "--json" not in taken:
            extra.append(click.Option(["--json", "show_as_json"], is_flag=True, help=f"With {SHOW}: as JSON."))
        extra.append(version_option())
        return SettingsCommand(
            name=name or function.__name__.strip("_").replace("_", "-"),
            callback=_callback(settings, function, own, daemon=daemon),
            params=[*own, *options, *extra],
            help=function.__doc__,
            examples=examples,
        )

    return wrap


def _callback(
    settings: type[S], function: Callable[..., int | None], own: Sequence[click.Parameter], *, daemon: bool
) -> Callable[..., None]:
    own_names = {param.name for param in own}

    def run(**values: Any) -> None:
        given = {key: value for key, value in values.items() if key in settings.model_fields and value is not None}
        loaded = settings.load(given)
        if values.pop("show_settings"):
            as_json = bool(values.get("show_as_json") or values.get("json") or values.get("as_json"))
            click.echo(_shown(loaded, given, as_json=as_json))
            return
        if daemon:
            _load_log()
        else:
            collect_from_now_on()
        code = function(loaded, **{key: value for key, value in values.items() if key in own_names})
        if code:
            click.get_current_context().exit(code)

    return run


def collect_from_now_on() -> None:
    """Collect garbage, if the start of the process put it off. Loaded modules are never scanned."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _load_log() -> None:
    """Import structlog without rich, which it would import to colour tracebacks: a tenth of the start of a daemon.

    No log of a daemon has colours in tracebacks. A handler may import rich afterwards.
    """
    if not {"rich", "structlog"}.intersection(sys.modules):
        # Python's own way to say that a module cannot be imported.
        sys.modules["rich"] = None  # type: ignore[assignment]
        import structlog  # noqa: F401

        del sys.modules["rich"]


def _option(field: str, info: FieldInfo) -> click.Option:
    flag = flag_name(field)
    about = f"{(info.description or '').rstrip('.')}  [env {field.upper()}; {_default_text(info)}]"
    if info.annotation is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", field], default=None, help=about)
    return click.Option([flag, field], default=None, type=str, metavar=_metavar(info.annotation), help=about)


def _default_text(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined or default == ():
        return "no default"
    shown = ",".join(map(str, default)) if isinstance(default, (tuple, list)) else str(default)
    if _holds_secret(info.annotation):
        from_text = next((kind for kind in _kinds(info.annotation) if hasattr(kind, "reveal")), str)
        shown = str(from_text(shown))
    return f"default {shown}"


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) or (annotation,)


def _holds_secret(annotation: Any) -> bool:
    return any(hasattr(kind, "reveal") for kind in _kinds(annotation))


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (tuple, list):
        return "A,B,..."
    names: dict[Any, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT", PathOrUrl: "PATH|URL"}
    for kind in _kinds(annotation):
        if kind in names:
            return names[kind]
        if kind is not type(None) and "url" in getattr(kind, "__name__", "").lower():
            return "URL"
    return "PATH" if any("Path" in getattr(kind, "__name__", "") for kind in _kinds(annotation)) else "VALUE"


def _shown(settings: Settings, given: dict[str, Any], *, as_json: bool) -> str:
    values = masked_within(settings.model_dump(mode="json"))
    if as_json:
        return json.dumps(values, indent=2)
    width = max((len(name) for name in values), default=0)
    shown = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    return "\n".join(
        f"{name.upper():<{width}}  {'' if value is None else value}  ({_origin(settings, name, given)})"
        for name, value in shown.items()
    )


def _origin(settings: Settings, name: str, given: dict[str, Any]) -> str:
    if name in given:
        return "flag"
    if any(key.lower() == name and value for key, value in os.environ.items()):
        return "environment"
    return ".env" if name in settings.model_fields_set else "default"
