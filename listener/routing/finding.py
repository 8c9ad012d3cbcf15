"""Imports what ``HANDLER=package.module:object`` names, a function or an application, and makes a handler of it.

``async def handle(event)`` and ``def handle(event)`` run before the row is inserted. ``async def handle(event,
connection)`` runs inside the transaction that inserts the row. An application has routes, each with a form of its own.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlost.listener.core.errors import Misconfigured
from unlost.listener.pipeline.handlers import FunctionHandler, Handler, InThread
from unlost.listener.routing.arguments import effects_without_transaction, is_asynchronous
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.router import Router


def find_handler(name: str) -> Handler:
    """Import ``package.module:object``; raise ``Misconfigured`` with one sentence if it is not a handler."""
    return handler_of(name, imported(name))


def handler_of(name: str, target: Any) -> Handler:
    """Make a handler of an object; raise ``Misconfigured`` with one sentence if it cannot be one."""
    if isinstance(target, Router):
        return AppHandler(name, target)
    if not callable(target):
        module, _, attribute = name.partition(":")
        raise Misconfigured(f"HANDLER={name}: {module} has no function {attribute}")
    return _of_function(name, target)


def _of_function(name: str, function: Callable[..., Any]) -> FunctionHandler:
    try:
        parameters = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"HANDLER={name}: its parameters cannot be read: {error}") from None
    asynchronous = is_asynchronous(function)
    if len(parameters) == 1:
        if why := effects_without_transaction(function, parameters[0].name):
            raise Misconfigured(f"HANDLER={name}: {why}")
        return FunctionHandler(name, "plain", function if asynchronous else InThread(function))
    if len(parameters) == 2 and asynchronous:
        return FunctionHandler(name, "transaction", function)
    if len(parameters) == 2:
        raise Misconfigured(f"HANDLER={name}: a handler that takes a connection must be an `async def`")
    raise Misconfigured(
        f"HANDLER={name}: a handler takes (event) or (event, connection), not {len(parameters)} parameters"
    )


def imported(name: str, setting: str = "HANDLER") -> Any:
    """Return the object that ``package.module:object`` names; None if the module has no such name."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise Misconfigured(f"{setting}={name}: write package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # otherwise a module that calls sys.exit would end the process silently
        raise Misconfigured(
            f"{setting}={name}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    for part in function_name.split("."):
        target = getattr(target, part, None)
    return target
