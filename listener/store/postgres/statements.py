"""Loads SQL from ``.sql`` files. A ``-- name:`` line names each statement.

Each group has a schema of its own. The files are written for the default group, whose schema is ``unlost``, and can be
tried in ``psql`` as they are. For another group, that name before a table is replaced. Nothing is put into a session's
``search_path``: a pooler would lose or refuse it, and unqualified names belong to the handler.
"""

import functools
import re
from importlib import resources

from unlost.listener.core.errors import Misconfigured

DEFAULT_GROUP = "unlost"
GROUP_NAME = r"[A-Za-z0-9_.-]{1,56}"
"""The allowed names of groups. With ``unlost_`` before it, a name still fits the 63 bytes of a name in PostgreSQL."""
GROUP_RULE = "a group's name has 1 to 56 letters, digits, dots, hyphens or underscores"

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_SCHEMA = re.compile(r"\bunlost\.")


def schema_of(group: str) -> str:
    """Return the name of a group's schema, unique to it: ``unlost``, or ``unlost_`` and the group."""
    if not re.fullmatch(GROUP_NAME, group):
        raise Misconfigured(f"GROUP: {GROUP_RULE}, not {group!r}")
    return DEFAULT_GROUP if group == DEFAULT_GROUP else f"unlost_{group}"


def group_of(schema: str) -> str | None:
    """Return the group whose schema has this name; None if it is no group's."""
    group = schema if schema == DEFAULT_GROUP else schema.removeprefix(f"{DEFAULT_GROUP}_")
    return group if re.fullmatch(GROUP_NAME, group) and schema_of(group) == schema else None


def quoted(name: str) -> str:
    """Quote a name as an identifier of PostgreSQL."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def in_schema(sql: str, schema: str) -> str:
    """Rewrite SQL for the schema ``unlost`` to another schema."""
    name = f"{quoted(schema)}."
    return _SCHEMA.sub(lambda _: name, sql)


@functools.cache
def statements(package: str, file: str, schema: str = DEFAULT_GROUP) -> dict[str, str]:
    """Return the statements of one file, by name, for one schema."""
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    _, *parts = _HEADER.split(text)
    return {name: in_schema(body.strip(), schema) for name, body in zip(parts[::2], parts[1::2], strict=True)}
