"""The command ``dlq replay`` with the engine of a listener, which is imported only when letters are run."""

import os

from unlost.dlq.commands.replay import ReplaySettings, replay_command
from unlost.dlq.replay.outcome import Rerun
from unlost.dlq.replay.shadow import ShadowRun
from unlost.ops.kit.access.settings import ClientSettings
from unlost.ops.kit.command import secret_names

SECRETS_OF_OTHERS = secret_names(ClientSettings)
"""Environment variables with secrets that operators' commands need, and that no handler must see."""


def _open_rerun(settings: ReplaySettings) -> Rerun:
    """The engine of a listener. It runs the user's code."""
    for name in [one for one in os.environ if one.upper() in SECRETS_OF_OTHERS]:
        del os.environ[name]
    from unlost.listener.app.replay_engine import open_rerun

    return open_rerun(settings)


def _open_shadow(settings: ReplaySettings) -> ShadowRun:
    """Today's handler, for a shadow replay."""
    from unlost.listener.app.shadow_engine import open_shadow

    return open_shadow(settings)


replay = replay_command(_open_rerun, _open_shadow)
