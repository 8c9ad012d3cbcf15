"""A server answers to its own names, and pages of other origins may not use it."""

import pytest

from unlost.ops.kit.access.hosts import Hosts, is_loopback

HOSTS = Hosts.of(["console.example", "Proxied.example:8443"], ["https://shop.example"])


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:3005", "LOCALHOST:1", "a.localhost:3005", "127.0.0.1:3005", "10.0.3.4:80", "[::1]:3005",
        "[fe80::1%eth0]:1", "console.example", "CONSOLE.example:3006", "console.example.", "proxied.example:8443",
    ],
)  # fmt: skip
def test_own_names_and_addresses_in_digits_are_known(host: str):
    assert HOSTS.knows(host)


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:3005", "localhost.evil.example", "127.0.0.1.evil.example", "proxied.example",
        "proxied.example:1", "localhost@evil.example", "evil.example/localhost", "evil.example#localhost", "[::1",
        "localhost:port", "localhost:99999", "127.0.0.1 evil.example", "notlocalhost", "0x7f.1.evil", "\u2025localhost",
    ],
)  # fmt: skip
def test_foreign_names_are_not(host: str):
    assert not HOSTS.knows(host)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://127.0.0.1:3005", "127.0.0.1:3005", True),
        ("http://127.0.0.1:9999", "127.0.0.1:3005", False),
        ("http://127.0.0.1", "127.0.0.1:80", True),
        ("https://console.example", "console.example", True),
        ("https://console.example", "console.example:443", True),
        ("https://console.example:8443", "console.example", False),
        ("https://shop.example", "127.0.0.1:3005", True),
        ("https://SHOP.example", "127.0.0.1:3005", True),
        ("http://shop.example", "127.0.0.1:3005", False),
        ("https://shop.example.evil", "127.0.0.1:3005", False),
        ("null", "127.0.0.1:3005", False),
        ("http://[", "127.0.0.1:3005", False),
        ("", "", False),
        ("http://a@127.0.0.1:3005", "127.0.0.1:3005", False),
        ("http://127.0.0.1:3005, http://evil.example", "127.0.0.1:3005", False),
    ],
)
def test_an_origin_is_compared_with_its_port(origin: str, host: str, allowed: bool):
    assert HOSTS.lets(origin, host) is allowed


def test_loopback_is_what_other_machines_cannot_reach():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example", "", "localhost.example")))
