"""How long a process may take to stop before it is killed.

A listener finishes running work for up to ``SHUTDOWN_TIMEOUT``. Its work before and after that has limits of its
own. ``tests/unit/ops/test_grace.py`` compares them, and the deployment files, with what stands here.
"""

from collections.abc import Mapping

SHUTDOWN_TIMEOUT = 20.0
"""The default of the setting."""
OTHER_STEPS_SECONDS = 20.0
"""Waiting for claims, reading what peers settled, writing letters, recording gaps, and shipping letters."""
CLOSE_SECONDS = 5.0
"""Closing connections and ending the process."""


def grace_of(environment: Mapping[str, str]) -> float:
    """Return the seconds after which a process with these settings is killed."""
    try:
        shutdown = float(environment.get("SHUTDOWN_TIMEOUT") or SHUTDOWN_TIMEOUT)
    except ValueError:
        shutdown = SHUTDOWN_TIMEOUT  # a listener with such a setting does not start
    return shutdown + OTHER_STEPS_SECONDS + CLOSE_SECONDS
