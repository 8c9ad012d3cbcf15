"""Signatures of Standard Webhooks: the published example, secrets, and what is refused."""

import base64

import pytest

from unlost.ops.kit.access.webhook import BadSignature, WrongSecrets, claimed, secrets_of, sender_of, signature
from unlost.producer.app.signed import with_id

# The example of the specification's reference implementation.
SECRET, KEY, AT = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
BODY, SIGNED = b'{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_signature_is_that_of_the_specification():
    secrets = secrets_of(f"# ours\n\nsvix=whsec_{SECRET}\n")
    assert signature(secrets["svix"][0], KEY, AT, BODY) == SIGNED
    assert sender_of(secrets, KEY, AT, [SIGNED], BODY) == "svix"


@pytest.mark.parametrize("given", [[], ["v1,"], [SIGNED + "="], [SIGNED.lower()], ["v1,\u00e9"]])
def test_another_signature_is_of_nobody(given: list[str]):
    with pytest.raises(BadSignature):
        sender_of(secrets_of(f"svix=whsec_{SECRET}"), KEY, AT, given, BODY)


def test_two_parts_cannot_be_moved_into_each_other():
    secret = base64.b64decode(SECRET)
    assert signature(secret, "a", "1", b"2.x") == signature(secret, "a.1", "2", b"x"), "so an id has no dot"
    with pytest.raises(BadSignature):
        claimed({"webhook-id": ["a.1"], "webhook-timestamp": ["2"], "webhook-signature": ["v1,x"]}, 2.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bank", "line 1"),
        ("bank=secret", "whsec_"),
        ("a b=whsec_x", "line 1"),
        ("\nbank=whsec_!!", "line 2: the secret is not base64"),
        ("bank=whsec_c2hvcnQ=", "5 bytes"),
        (f"bank=whsec_{SECRET}\n" * 65, "more than 64"),
    ],
)
def test_a_wrong_secret_is_named_by_its_line_and_not_shown(text: str, why: str):
    with pytest.raises(WrongSecrets, match=why) as error:
        secrets_of(text)
    assert "c2hvcnQ" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a":1}', b'{"event_id":"k\\"","a":1}'),
        (b" \n{}", b'{"event_id":"k\\""}'),
        (b'{"event_id":"mine"}', b'{"event_id":"mine"}'),
        (b"[1]", b"[1]"),
        (b"{", b"{"),
        (b"[" * 100_000, b"[" * 100_000),
    ],
)
def test_an_event_without_an_id_gets_that_of_the_request(body: bytes, shown: bytes):
    assert with_id(body, 'k"') == shown
