"""``App``: routes, and a way to run them inside another asyncio program.

The program keeps its signals, its logging and its event loop policy. Log lines go to the logger
``unlost`` of the standard library. Everything else is imported when it is run: a module with an application is also
imported by tests and by commands.
"""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.router import Router

if TYPE_CHECKING:
    from unlost.listener.app.embedded import Embedded


class App(Router):
    """An application: functions for types of events. ``HANDLER=package.module:app`` names it."""

    @asynccontextmanager
    async def running(self, settings: Mapping[str, Any] | None = None) -> "AsyncIterator[Embedded]":
        """Run a listener with these routes inside this event loop, for as long as the context lasts.

        ``settings`` are a listener's, by their names in lower case; all others come from the environment and ``.env``.
        Without ``handler``, the handler is named after the module that holds this object. Entering returns once the
        listener works, and raises what prevents its start. Leaving drains it, for up to ``shutdown_timeout`` seconds.
        """
        from unlost.listener.app.embedded import embedded

        given = settings or {}
        async with embedded(self, {**given, "handler": given.get("handler") or self._name()}) as listener:
            yield listener

    def _name(self) -> str:
        """Return the name under which commands find this application."""
        for module_name, module in list(sys.modules.items()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if value is self:
                    return f"{_importable(module_name, module)}:{name}"
        raise Misconfigured(
            "this App is in no module's namespace, so no command could find it: assign it to a name in a module, or "
            "give running() a handler"
        )


def _importable(name: str, module: object) -> str:
    """Return the name under which a module can be imported; it differs for the program's main module."""
    file = getattr(module, "__file__", None)
    return Path(file).stem if name == "__main__" and file else name
