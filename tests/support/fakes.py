"""Fakes for classes that have no port. A method that a fake shares with its class takes the same arguments."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


def as_a(kind: type[T], fake: object) -> T:
    """Return ``fake`` as an object of this class. A method that the class has, too, must take all that it takes there.

    A fake has only what its test needs. It may have more than the class: what the test reads or sets.
    """
    for name, method in inspect.getmembers(type(fake), inspect.isfunction):
        real = getattr(kind, name, None)
        if not name.startswith("_") and inspect.isfunction(real):
            _check_calls(f"{type(fake).__name__}.{name}", method, real)
    return cast("T", fake)


def unused(kind: type[T]) -> T:
    """Return what stands for an object of this class where a test must not use it."""
    return cast("T", Unused(kind.__name__))


class Unused:
    """A stand-in without attributes. Its first use fails the test."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the test uses {name} of {self._name}, which has no fake here")


def _check_calls(name: str, fake: Callable[..., Any], real: Callable[..., Any]) -> None:
    taken = inspect.signature(real).parameters.values()
    for chosen in (list(taken), [one for one in taken if one.default is one.empty]):
        positional = [one for one in chosen if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        named = {one.name: None for one in chosen if one.kind is one.KEYWORD_ONLY}
        try:
            inspect.signature(fake).bind(*[None] * len(positional), **named)
        except TypeError as error:
            raise AssertionError(f"{name} does not take what {real.__qualname__} takes: {error}") from None
