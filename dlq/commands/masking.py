"""The payload fields that a command shows: none that ``REDACT`` masks, unless ``--unmasked`` asks, and is recorded."""

from collections.abc import Sequence
from pathlib import Path

from unlost.dlq.commands.options import LetterSettings
from unlost.dlq.commands.trail import about, noted
from unlost.dlq.record.query import Selection
from unlost.dlq.record.trail import Act, whoami
from unlost.dlq.store.port import LetterStore
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor


async def redactor_of(
    settings: LetterSettings, files: Sequence[Path], store: LetterStore, selection: Selection, *, unmasked: str
) -> Redactor:
    """Return the redactor for letters that are shown. ``unmasked``: the command whose ``--unmasked`` was given."""
    redactor = settings.redactor()
    if not (redactor.masks and unmasked):
        return redactor
    act = Act(whoami(), unmasked, "payloads shown", about(selection, store.where), "", "unmasked")
    await noted(settings, files, act)
    return UNMASKED
