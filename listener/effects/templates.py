"""Writes a notification as a receiver expects it: our own webhook, Slack's, or PagerDuty's. Pure."""

from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from unlost.listener.core.notification import Notification

Template = Literal["webhook", "slack", "pagerduty"]
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
LONGEST_SUMMARY = 1_000


class Receiver(msgspec.Struct, frozen=True):
    """Where notifications go. ``routing_key``: PagerDuty's."""

    template: Template
    url: str
    routing_key: str = ""


def receivers_of(text: str) -> tuple[Receiver, ...]:
    """Read ``template=URL`` words, and ``pagerduty=KEY`` or ``pagerduty=KEY@URL``; ``ValueError`` without a value."""
    found: dict[str, Receiver] = {}
    for number, word in enumerate(text.split(), 1):
        template, _, value = word.partition("=")
        if template not in ("webhook", "slack", "pagerduty") or not value:
            raise ValueError(f"word {number} is not written webhook=URL, slack=URL or pagerduty=KEY")
        if template in found:
            raise ValueError(f"{template} is given twice")
        key, _, url = value.partition("@") if template == "pagerduty" else ("", "", value)
        found[template] = Receiver(template, url or PAGERDUTY, key)  # type: ignore[arg-type]
    return tuple(found.values())


def body_of(receiver: Receiver, one: Notification, *, group: str, console: str | None) -> bytes:
    """The body for a receiver. ``console``: its address, for a link."""
    text, link = sentence(one, group), link_to(one, console)
    if receiver.template == "slack":
        return msgspec.json.encode({"text": _escaped(text) + (f"\n<{link}|Open the console>" if link else "")})
    if receiver.template == "pagerduty":
        return msgspec.json.encode(_for_pagerduty(receiver, one, text, link, group))
    data = {**one.facts, "group": group, "text": text, "link": link}
    return msgspec.json.encode({"type": one.kind, "timestamp": _iso(one.at), "data": data})


def sentence(one: Notification, group: str) -> str:
    """The happening in one sentence."""
    facts = one.facts
    failure = f"{facts.get('reason')}: {facts.get('error_type')}"
    said = {
        "letters.new_group": f"a new kind of dead letter: {failure}: {facts.get('message')}",
        "letters.healing_ended": f"{facts.get('letters')} letters heal no longer and need a human: {failure}",
        "source.gap": f"a gap in source {facts.get('source')} ({facts.get('how')}), "
        f"missing: {'unknown' if facts.get('missing') is None else facts.get('missing')}",
        "audit.not_clean": f"an audit found that something is wrong: {facts.get('result')}",
        "notifications.many": "more happened within an hour than is reported one by one; look at the console",
    }[one.kind]
    return f"Unlost group {group}: {said}"[:LONGEST_SUMMARY]


def link_to(one: Notification, console: str | None) -> str | None:
    """The page of the console about it."""
    if console is None:
        return None
    fingerprint = one.facts.get("fingerprint")
    if fingerprint:
        return f"{console}/#/letters/group/{quote(str(fingerprint), safe='')}"
    return f"{console}/#/{'gaps' if one.kind == 'source.gap' else 'overview'}"


def _for_pagerduty(receiver: Receiver, one: Notification, text: str, link: str | None, group: str) -> dict[str, Any]:
    severity = "warning" if one.kind in ("letters.new_group", "notifications.many") else "error"
    return {
        "routing_key": receiver.routing_key, "event_action": "trigger", "dedup_key": f"unlost:{group}:{one.key}"[:255],
        "payload": {
            "summary": text, "source": f"unlost group {group}", "severity": severity, "timestamp": _iso(one.at),
            "class": one.kind, "custom_details": one.facts,
        },
        "links": [{"href": link, "text": "Unlost console"}] if link else [],
    }  # fmt: skip


def _escaped(text: str) -> str:
    """Slack reads these three characters as markup, and nothing else that could ping a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
