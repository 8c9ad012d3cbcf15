"""The command ``unlost asyncapi``: a handler's routes and types, as a document of AsyncAPI 3.0."""

import click
import msgspec
from pydantic import Field

from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.asyncapi import asyncapi_of
from unlost.listener.routing.finding import handler_of, imported
from unlost.listener.routing.router import Router
from unlost.ops.kit.command import Settings, UsageProblem, command, say_json_text


class AsyncApiSettings(Settings):
    """Which handler."""

    handler: str = Field("", description="package.module:object, as a listener's")
    handler_version: str = Field("", description="The version of the document; none: 0")


@command(
    AsyncApiSettings,
    name="asyncapi",
    examples=["unlost asyncapi shop:app > asyncapi.json", "HANDLER=shop:app HANDLER_VERSION=1.2 unlost asyncapi"],
    params=[click.Argument(["name"], required=False, metavar="[HANDLER]")],
)
def asyncapi(settings: AsyncApiSettings, name: str | None) -> int:
    """Print what HANDLER receives as a document of AsyncAPI 3.0: its types of events, and their payloads' schemas.

    A running listener serves the same at `/asyncapi.json`. There the payload is known for certain: the lifespan is not
    entered here, so of several parameters the one that JSON can fill is taken for the payload.
    """
    name = name or settings.handler
    if not name:
        raise UsageProblem("name a handler: unlost asyncapi package.module:object, or HANDLER")
    try:
        target = imported(name)
        handler = handler_of(name, target) if isinstance(target, Router) else None
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    if handler is None:
        raise UsageProblem(f"{name} is no App: name an application with routes, such as shop:app")
    document = asyncapi_of(handler, name=name, version=settings.handler_version)
    say_json_text(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    return 0
