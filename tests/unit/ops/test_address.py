"""Addresses of several hosts are read by every version of Python, whichever of them are IPv6 addresses."""

import pytest

from unlost.ops.kit.telemetry.address import split_address


@pytest.mark.parametrize("url", [
    "postgresql://u:p@a:1,[::1]:2/db?x=y", "redis://[::1]:1,b,[::2]:3/0", "a,b", "",
    "nats://u:p@[::1],h:4222/stream#f", "kafka://a,b",
])  # fmt: skip
def test_an_address_is_put_together_again_as_it_was(url: str):
    assert split_address(url).geturl() == url


def test_its_parts_are_those_of_an_address_of_one_host():
    parts = split_address("postgresql://u:p@a:1,[::1]:2/db?x=y#z")
    assert parts[:] == ("postgresql", "u:p@a:1,[::1]:2", "/db", "x=y", "z")


@pytest.mark.parametrize("url", ["redis://a,[::1/0", "redis://a,::1]/0", "http://\u2100.example/"])
def test_a_host_that_cannot_be_read_is_refused(url: str):
    with pytest.raises(ValueError, match=r"IPv6|netloc"):
        split_address(url)
