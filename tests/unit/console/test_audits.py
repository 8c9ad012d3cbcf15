"""The last audit as metrics. What was known stays while PostgreSQL is away."""

from prometheus_client import CollectorRegistry

from unlost.listener.store.postgres.audits import LastAudit
from unlost.ops.console.audits import Audits


def test_the_last_audit_is_shown_with_every_column() -> None:
    registry = CollectorRegistry()
    audits = Audits(registry, since=3.0)

    def seen() -> tuple[float | None, ...]:
        wrong = (registry.get_sample_value("unlost_audit_wrong", {"column": one}) for one in ("missing", "doubled"))
        return registry.get_sample_value("unlost_audit_at_seconds"), *wrong

    assert seen() == (3.0, None, None), "since then there was none"
    audits.note(None)
    assert seen() == (3.0, None, None)
    audits.note(LastAudit(at=5.0, who="ana", accepted=9, wrong={"missing": 2}))
    assert seen() == (5.0, 2.0, 0.0)
    audits.note(None)
    assert seen() == (5.0, 2.0, 0.0), "PostgreSQL is away: this says nothing new"
    audits.note(LastAudit(at=6.0, who="ana", accepted=9, wrong={}))
    assert seen() == (6.0, 0.0, 0.0)
