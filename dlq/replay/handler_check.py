"""Whether a replay has the handler of its group. Pure.

What the group's listeners declare now decides. Where none lives, the handler that stands in the letters does, whatever
its version: a handler that was repaired is what most replays are for.
"""

from collections.abc import Collection, Iterable

Declared = tuple[str, str | None]
"""A live listener, and what its handler is called; None: it has none."""


def refusal(mine: str | None, live: Collection[Declared], letters: Collection[str | None]) -> str:
    """Why a replay with the handler ``mine`` is refused, in one sentence; an empty text where it is not."""
    if live:
        if mine in {handler for _, handler in live}:
            return ""
        instance, theirs = min(live, key=lambda one: one[0])
        return _sentence(mine, theirs, f"listener {instance} has")
    if not letters or _name(mine) in set(map(_name, letters)):
        return ""
    return _sentence(mine, _first(letters), "no listener is running, the letters name")


def _sentence(mine: str | None, theirs: str | None, whose: str) -> str:
    told = f"{whose} {_called(theirs)}, and this replay has {_called(mine)}"
    if mine is None:
        return (
            f"{told}, so the events would be stored without being handled; set {_settings(theirs)}, "
            "or insist with --without-handler"
        )
    right = f"set {_settings(theirs)}" if theirs else "unset HANDLER"
    return f"{told}; {right}, or insist with --other-handler"


def _settings(handler: str | None) -> str:
    name, _, version = (handler or "").partition("@")
    return f"HANDLER={name}" + (f" HANDLER_VERSION={version}" if version else "")


def _called(handler: str | None) -> str:
    return f"the handler {handler}" if handler else "no handler"


def _name(handler: str | None) -> str | None:
    return handler and handler.partition("@")[0]


def _first(letters: Iterable[str | None]) -> str | None:
    return min(letters, key=lambda one: one or "")
