"""Unlost: every event ends as exactly one row, stored by your handler, or as a dead letter.

Here is what a handler may need; everything else is Unlost's own. The rooms are folders of the repository's top level,
and ``unlost/listener`` is a link to ``listener`` (docs/decisions/0058-one-package-of-links.md says why).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlost.listener.core.delivery import Delivery
    from unlost.listener.core.errors import Reject

__all__ = ["Delivery", "Reject"]
_ROOMS = {"Delivery": "unlost.listener.core.delivery", "Reject": "unlost.listener.core.errors"}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: a daemon must heed a stop before it loads anything of ours."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'unlost' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)
