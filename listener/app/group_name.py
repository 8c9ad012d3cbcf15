"""The name of a group, as every command's settings check it."""

import re
from typing import Annotated

from pydantic import AfterValidator

from unlost.listener.core.shard import Shard
from unlost.listener.store.postgres.statements import GROUP_NAME, GROUP_RULE


def _group_name(value: str) -> str:
    if not re.fullmatch(GROUP_NAME, value):
        raise ValueError(GROUP_RULE)
    Shard.of_group(value)
    return value


GroupName = Annotated[str, AfterValidator(_group_name)]
"""The name of a group of listeners. Its schema in PostgreSQL is named after it."""
