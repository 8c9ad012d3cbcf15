"""Effects: which a handler may record, where they may go, their signature, and what answers mean."""

import base64

import pytest

from unlost import App, Delivery, Transaction
from unlost.listener.core.effects import (
    DELIVERED,
    MOST_BYTES,
    MOST_EFFECTS,
    NO_EFFECTS,
    EffectRefused,
    Effects,
    body_of,
    key_of,
)
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.targets import Targets
from unlost.listener.effects.hosts import by_host, secrets_of
from unlost.listener.effects.outcomes import judged, judged_by_producer, seconds_of
from unlost.listener.routing.finding import handler_of
from unlost.ops.kit.access.webhook import signed


def test_an_effect_is_recorded_as_it_was_given() -> None:
    effects = Effects()
    effects.post("https://api.example.com/x?y=1#part", json={"n": 1}, headers={"X-Kind": "a"}, in_order=True)
    effects.post("https://api.example.com:8443/", body="text")
    first, second = effects.taken()
    assert (first.url, first.host, first.queue) == (
        "https://api.example.com/x?y=1", "api.example.com", "https://api.example.com/x"
    )  # fmt: skip
    assert (first.body, first.headers) == (b'{"n":1}', {"x-kind": "a", "content-type": "application/json"})
    assert (second.host, second.body, second.headers, second.queue) == ("api.example.com:8443", b"text", {}, None)


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://a/", "https:///x", "https://a b/", "https://user:pw@a/", "https://a/\nx", "https://a:99999/",
        "https://a/" + "x" * 3_000, "https://a\\@b/", "http://[::1/",
    ],
)  # fmt: skip
def test_an_impossible_url_is_refused(url: str) -> None:
    with pytest.raises(EffectRefused):
        Effects().post(url)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "b"}, {"webhook-id": "b"}, {"Authorization": "Bearer x"}, {"a b": "c"}, {"a": "b\r\nc: d"},
        {"": "x"}, {"a": "ü"}, {"a": "x" * 5_000}, {f"n{n}": "x" for n in range(40)},
    ],
)  # fmt: skip
def test_an_impossible_header_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(EffectRefused):
        Effects().post("https://a/", headers=headers)


def test_the_effects_of_an_event_are_limited() -> None:
    effects = Effects()
    for _ in range(MOST_EFFECTS):
        effects.post("https://a/")
    with pytest.raises(EffectRefused, match="100 effects"):
        effects.post("https://a/")
    with pytest.raises(EffectRefused, match="1,048,576 bytes"):
        Effects().post("https://a/", body=b"x" * MOST_BYTES)


def test_nothing_is_recorded_without_a_transaction_or_after_the_attempt() -> None:
    with pytest.raises(EffectRefused, match="add a parameter `tx: Transaction`"):
        NO_EFFECTS.post("https://a/")
    effects = Effects()
    effects.taken()
    with pytest.raises(EffectRefused, match="the attempt has ended"):
        effects.publish({"payload": 1})


def test_a_function_without_a_transaction_is_refused_at_the_start() -> None:
    app = App()

    @app.on("a")
    async def tell(event: Delivery) -> None:
        event.effects.post("https://a/")

    @app.on("b")
    async def well(event: Delivery, tx: Transaction) -> None:
        event.effects.post("https://a/")

    with pytest.raises(Misconfigured) as refused:
        handler_of("shop:app", app)
    (only,) = refused.value.mistakes
    assert "tell(): event.effects cannot be used: this function does not run in the row's transaction" in only

    def plain(event: Delivery) -> None:
        event.effects.publish({"payload": 1})

    with pytest.raises(Misconfigured, match=r"HANDLER=shop:plain: event.effects cannot be used"):
        handler_of("shop:plain", plain)

    def harmless(event: Delivery) -> object:
        return event.payload.effects

    assert handler_of("shop:harmless", harmless).name == "shop:harmless"


def test_a_key_is_the_same_in_each_attempt_and_different_for_all_else() -> None:
    keys = {key_of(*one) for one in (("g", "e", 1), ("g", "e", 2), ("h", "e", 1), ("g", "e\0001", 1), ("g", "", 1))}
    assert len(keys) == 5
    assert key_of("g", "ü.\n", 1) == key_of("g", "ü.\n", 1)
    assert key_of("g", "ü.\n", 1).removeprefix("msg_").isalnum()


def test_a_published_event_gets_the_key_as_its_id() -> None:
    effects = Effects()
    effects.publish({"type": "t", "payload": {"n": 1}})
    effects.publish({"event_id": "own", "payload": 1})
    with pytest.raises(EffectRefused):
        effects.publish({"type": "t"})
    without, own = effects.taken()
    assert body_of(without, "msg_1") == b'{"event_id":"msg_1","type":"t","payload":{"n":1}}'
    assert body_of(own, "msg_1") == b'{"event_id":"own","payload":1}'


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        ("api.example.com", "https://api.example.com/x", True),
        ("api.example.com", "https://API.example.com./x", True),
        ("api.example.com", "http://api.example.com/x", False),
        ("api.example.com", "https://api.example.com:8443/x", False),
        ("api.example.com:8443", "https://api.example.com:8443/x", True),
        ("http://localhost:9000", "http://localhost:9000/", True),
        ("http://localhost:9000", "https://localhost:9000/", False),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://evilexample.com/", False),
        ("example.com", "https://example.com.evil.org/", False),
        ("*", "https://anything.org/", True),
        ("*", "http://anything.org/", False),
        ("", "https://anything.org/", False),
    ],
)
def test_only_named_hosts_are_allowed(hosts: str, url: str, allowed: bool) -> None:
    targets = Targets.of(hosts)
    if allowed:
        targets.check(url)
    else:
        with pytest.raises(EffectRefused, match="not in EFFECT_HOSTS"):
            targets.check(url)


@pytest.mark.parametrize("hosts", ["a*.example.com", "*a.com", "a.com/path", "ftp://a", "user@a.com"])
def test_a_wrong_host_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match="a"):
        Targets.of(hosts)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "240.0.0.1", "no address",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_unless_named(address: str) -> None:
    assert not Targets().may_call(address)


def test_named_networks_and_public_addresses_are_called() -> None:
    targets = Targets.of("", "10.0.0.0/8 127.0.0.1/32")
    assert all(map(targets.may_call, ("10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3", "93.184.216.34", "2606:4700::1")))
    assert not targets.may_call("127.0.0.2")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's reference libraries."""
    secrets = secrets_of("a.com=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")["a.com"]
    headers = signed(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-id"] == headers["idempotency-key"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_a_host_without_a_secret_has_no_signature_and_one_with_two_has_both() -> None:
    assert "webhook-signature" not in signed((), "k", 1, b"")
    one, other = (base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
    both = secrets_of(f"a.com={one} A.com=whsec_{other}")
    assert len(signed(both["a.com"], "k", 1, b"")["webhook-signature"].split(" ")) == 2


@pytest.mark.parametrize("text", ["a.com", "=x", "a.com=", "a.com:8=x", "a.com=whsec_!!", "a.com=whsec_c2hvcnQ="])
def test_a_wrong_secret_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"word 1|a\.com") as refused:
        secrets_of(text)
    assert "c2hvcnQ" not in str(refused.value)
    assert by_host("a.com=t=1 b.com=u") == {"a.com": ["t=1"], "b.com": ["u"]}


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (200, "delivered"), (204, "delivered"), (301, "never"), (308, "never"), (400, "never"), (401, "never"),
        (404, "never"), (408, "again"), (409, "never"), (410, "never"), (425, "again"), (429, "again"),
        (500, "again"), (503, "again"),
    ],
)  # fmt: skip
def test_answers_are_sorted(code: int, what: str) -> None:
    assert judged(code, b"", "", 0.0).what == what


def test_an_answer_quotes_little_and_no_control_characters() -> None:
    why = judged(500, b"no \x1b[31m" + b"x" * 9_000, "", 0.0).why
    assert why.startswith("HTTP 500: no ")
    assert "\x1b" not in why
    assert len(why) < 400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), (" 7 ", 7.0), ("999999999999", 0.0), ("86401", 86_400.0), ("-1", 0.0), ("soon", 0.0), ("", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("٣", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float) -> None:
    assert seconds_of(text, 100.0) == seconds


def test_a_producer_that_knows_the_event_has_it() -> None:
    assert judged_by_producer(409, b'{"status":"duplicate"}', "", 0.0) == DELIVERED
    for body in (b'{"status":"conflict"}', b"[]", b"no", b""):
        assert judged_by_producer(409, body, "", 0.0).what == "never"
