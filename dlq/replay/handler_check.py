"""Whether a replay has the handler and the group of its letters. Pure.

The handler that the group's live listeners declare decides. If none is live, the handler named in the letters decides,
whatever its version: most replays follow a fix of the handler.
"""

from collections.abc import Collection

Declared = tuple[str, str | None]
"""A live listener and the name of its handler, or None if it has no handler."""


def refusal(mine: str | None, live: Collection[Declared], letters: Collection[str | None]) -> str:
    """Why a replay with the handler ``mine`` is refused, in one sentence. Empty if it is not refused."""
    if live:
        if mine in {handler for _, handler in live}:
            return ""
        instance, theirs = min(live, key=lambda one: one[0])
        return _sentence(mine, theirs, f"listener {instance} has")
    # A letter without a handler fits any: it was written before the group had one.
    others = [one for one in letters if one and _name(one) != _name(mine)]
    return _sentence(mine, min(others), "no listener is running, the letters name") if others else ""


def wrong_group(mine: str, letters: Collection[str | None]) -> str:
    """Why letters are not replayed in the group ``mine``. Letters of older versions name no group, and fit any."""
    others = [one for one in letters if one and one != mine]
    if not others:
        return ""
    return (
        f"letters of the group {min(others)} would be stored in the group {mine}, where nobody of theirs reads them; "
        f"set GROUP={min(others)}"
    )


def _sentence(mine: str | None, theirs: str | None, whose: str) -> str:
    difference = f"{whose} {_called(theirs)}, and this replay has {_called(mine)}"
    if mine is None:
        return (
            f"{difference}, so the events would be stored without being handled; set {_settings(theirs)}, "
            "or insist with --without-handler"
        )
    right = f"set {_settings(theirs)}" if theirs else "unset HANDLER"
    return f"{difference}; {right}, or insist with --other-handler"


def _settings(handler: str | None) -> str:
    name, _, version = (handler or "").partition("@")
    return f"HANDLER={name}" + (f" HANDLER_VERSION={version}" if version else "")


def _called(handler: str | None) -> str:
    return f"the handler {handler}" if handler else "no handler"


def _name(handler: str | None) -> str | None:
    return handler and handler.partition("@")[0]
