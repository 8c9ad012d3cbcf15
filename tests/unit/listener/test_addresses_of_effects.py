"""The path of an effect's address may be a secret, as of a webhook."""

import pytest

from unlost.listener.core.effects import PRODUCER, DeliveryOutcome, Effect
from unlost.listener.pipeline.effect_letters import delivery_failure
from unlost.ops.console.flow_routes import address
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor

URL = "https://hooks.example:8443/T0/SECRET?key=SECRET2#SECRET3"


@pytest.mark.parametrize(
    ("url", "host", "to"), [(URL, "hooks.example", "hooks.example"), ("", PRODUCER, "the producer")]
)
def test_the_letter_of_an_effect_names_its_host_alone(url: str, host: str, to: str) -> None:
    effect = Effect("e", 2, "k", "post" if url else "publish", url, host, {}, b"", 11)
    failure = delivery_failure(effect, DeliveryOutcome("never", "HTTP 400"), 1.0)
    assert failure.message == f"effect 2, {effect.kind} to {to}, attempt 12: HTTP 400"


@pytest.mark.parametrize(
    ("url", "whole", "short"),
    [
        (URL, "https://hooks.example:8443/T0/SECRET", "https://hooks.example:8443"),
        ("https://a:p?w@h/x", "https://***@h/x", "https://***@h"),
        ("", "", ""),
    ],
)
def test_an_address_is_shown_without_its_query_and_without_its_path_if_fields_are_masked(
    url: str, whole: str, short: str
) -> None:
    assert address(url, UNMASKED) == whole
    assert address(url, Redactor(["card"])) == short
