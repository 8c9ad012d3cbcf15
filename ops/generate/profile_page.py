"""The keys of a profile as a page: ``python -m unlost.ops.generate.profile_page`` prints it."""

import inspect

from pydantic.fields import FieldInfo

from unlost.listener.source.feed.profile import (
    Ack,
    AgainTable,
    Backfill,
    ConnectionTable,
    Heartbeat,
    Open,
    Profile,
    ReplyTable,
    Resume,
    SequenceTable,
    Table,
    UrlFrom,
)

TABLES: tuple[tuple[str, type[Table]], ...] = (
    ("open", Open),
    ("reply", ReplyTable),
    ("heartbeat", Heartbeat),
    ("resume", Resume),
    ("sequence", SequenceTable),
    ("again", AgainTable),
    ("ack", Ack),
    ("url_from", UrlFrom),
    ("backfill", Backfill),
    ("wire", ConnectionTable),
)

HEAD = """# Profiles

A profile is a TOML file that says how a feed is read. `SOURCE=feed.toml` uses it; [Connect a
feed](../how-to/connect-a-feed.md) writes one step by step. Unknown keys, impossible paths and missing variables are
reported together at the start, each with its line; exit code 2.

| form | meaning |
|---|---|
| path | `data.trades[0].id`; other names in quotes, `"a name"`; `$.` begins at the whole message, `$` is all of it |
| template | text with paths in braces, `{product_id}:{trade_id}`; within JSON, values are escaped |
| condition | `{ path = ["one", "two"] }`, `"*"` for any value but null; `"text"`, `"beginning*"`; or a list of these |
| `${NAME}` | an environment variable; `${NAME:-default}` if it may be missing |
| `file:PATH` | the content of a file, read anew for each connection. In messages, braces in a value are no paths |

<!-- made by `make reference` -->
"""


def page() -> str:
    """One table for the profile, one for each table within."""
    parts = [HEAD, f"## Keys\n\n{_table(Profile)}"]
    parts += [f"## `{name}`\n\n{_more(table)}{_table(table)}" for name, table in TABLES]
    return "\n".join(parts)


def _more(table: type[Table]) -> str:
    """Return what a table's docstring says after its first sentence."""
    more = (inspect.getdoc(table) or "").partition("\n\n")[2]
    return f"{more}\n\n" if more else ""


def _table(table: type[Table]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {_default(info)} | {info.description} |" for name, info in table.model_fields.items()]
    return "\n".join(rows) + "\n"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=False)
    if value in (None, [], {}, "") or info.default_factory is not None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(page(), end="")
