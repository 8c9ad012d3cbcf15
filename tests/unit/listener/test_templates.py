"""Notifications, as their receivers get them."""

import json
from typing import Any

import pytest

from unlost.listener.core.notification import Happening, Notification
from unlost.listener.effects.templates import PAGERDUTY, Receiver, body_of, receivers_of

FAILURE: dict[str, Any] = {
    "fingerprint": "3f/9",
    "reason": "exhausted",
    "error_type": "KeyError",
    "message": "<b> & 'x'",
}


def shown(template: str, kind: Happening = "letters.new_group", **facts: Any) -> Any:
    one = Notification("group:3f", template, kind, facts or FAILURE, 1_800_000_000.5)
    receiver = Receiver(template, "https://x", "key")  # type: ignore[arg-type]
    return json.loads(body_of(receiver, one, group="shop", console="https://console"))


def test_receivers_are_read_and_mistakes_are_named_without_a_secret() -> None:
    text = "webhook=https://a/b?c=1 slack=https://hooks.slack.com/x pagerduty=k1@https://eu/v2"
    assert receivers_of(text) == (
        Receiver("webhook", "https://a/b?c=1"),
        Receiver("slack", "https://hooks.slack.com/x"),
        Receiver("pagerduty", "https://eu/v2", "k1"),
    )
    assert receivers_of("pagerduty=k1") == (Receiver("pagerduty", PAGERDUTY, "k1"),)
    assert receivers_of("") == ()
    for wrong in ("sesame", "mail=sesame", "slack=", "slack=https://sesame slack=https://b"):
        with pytest.raises(ValueError, match=r"word|twice") as raised:
            receivers_of(wrong)
        assert "sesame" not in str(raised.value)


def test_a_webhook_gets_facts_and_a_sentence() -> None:
    body = shown("webhook")
    assert (body["type"], body["timestamp"]) == ("letters.new_group", "2027-01-15T08:00:00.500Z")
    assert body["data"] == {
        **FAILURE, "group": "shop", "link": "https://console/#/letters/group/3f%2F9",
        "text": "Unlost group shop: a new kind of dead letter: exhausted: KeyError: <b> & 'x'",
    }  # fmt: skip


def test_slack_gets_no_markup_from_an_error() -> None:
    text = shown("slack")["text"]
    assert "&lt;b&gt; &amp; 'x'" in text
    assert text.endswith("\n<https://console/#/letters/group/3f%2F9|Open the console>")
    assert "<!channel>" not in shown("slack", message="<!channel>")["text"]


def test_pagerduty_gets_one_incident_for_each_happening() -> None:
    body = shown("pagerduty", "source.gap", source="s", how="silence", missing=None)
    assert (body["routing_key"], body["event_action"], body["dedup_key"]) == ("key", "trigger", "unlost:shop:group:3f")
    assert body["payload"]["summary"] == "Unlost group shop: a gap in source s (silence), missing: unknown"
    assert (body["payload"]["severity"], body["links"][0]["href"]) == ("error", "https://console/#/gaps")


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        ("letters.healing_ended", {"reason": "exhausted", "error_type": "X", "letters": 3}, "3 letters heal no longer"),
        ("audit.not_clean", {"result": "2 missing"}, "something is wrong: 2 missing"),
        ("notifications.many", {"n": 1}, "more happened"),
    ],
)
def test_each_happening_has_its_sentence(kind: Happening, facts: dict[str, Any], said: str) -> None:
    assert said in shown("webhook", kind, **facts)["data"]["text"]
