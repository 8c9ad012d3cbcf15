"""Turns the part of a request that names letters into a selection. Pure."""

import msgspec

from unlost.dlq.record.query import Selection
from unlost.ops.console.replays import ReplayRequest

SHORTEST_ID = 16


class Refused(Exception):
    """The request is wrong; the text says why."""


class LettersRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which letters to archive or to restore."""

    ids: tuple[str, ...] = ()
    fingerprint: str = ""
    file: str | None = None
    everything: bool = False
    why: str = ""


def selection_of(request: LettersRequest | ReplayRequest) -> Selection:
    """Return the selected letters; all of them only if the request says so explicitly."""
    if any(len(one) < SHORTEST_ID for one in request.ids):
        raise Refused('"ids" holds whole ids of letters: a part of one could mean others too')
    chosen = Selection(ids=request.ids, fingerprint=request.fingerprint)
    if chosen.everything and not request.everything:
        raise Refused('say which letters are meant, by "ids" or "fingerprint", or "everything": true')
    return chosen
