"""The problem that the last audit found. Pure."""

from collections.abc import Iterator

from unlost.ops.watch.picture import Picture
from unlost.ops.watch.problem import Problem


def of_audit(picture: Picture) -> Iterator[Problem]:
    """The problems that the last audit of all events found. They stay until an audit finds nothing wrong."""
    audit = picture.database.audit if picture.database else None
    if audit is None or not audit.wrong:
        return
    found = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in audit.wrong.items())
    yield Problem(
        key="audit", level="bad", what=f"The last audit is not clean: {found}", since=audit.at,
        affected=f"It accounted for {audit.accepted:,} accepted events, and was run by {audit.who}.",
        todo="See which events these are, and audit again once the cause is gone.",
        commands=("unlost audit",), runbook="UnlostAuditNotClean",
    )  # fmt: skip
