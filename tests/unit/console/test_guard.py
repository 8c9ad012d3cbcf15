"""A request that changes something comes from the console's own page, or from a program that sends its header."""

import pytest

from unlost.ops.console.guard import OWN_HEADER, forged, right_for

OWN = {"sec-fetch-site": "same-origin", OWN_HEADER: "1"}


@pytest.mark.parametrize(
    ("changed", "is_forged"),
    [
        ({}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({OWN_HEADER: ""}, True),
        ({OWN_HEADER: "2"}, True),
    ],
)
def test_only_own_pages_may_change_something(changed: dict[str, str], is_forged: bool):
    assert bool(forged("POST", OWN | changed)) is is_forged


def test_a_program_may_change_something_with_the_header_alone():
    assert not forged("POST", {OWN_HEADER: "1"})
    assert forged("POST", {})
    assert not forged("GET", {})


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/", None), ("GET", "/static/api.js", None), ("GET", "/health/ready", None),
        ("GET", "/metrics", "read"),
        ("GET", "/api/letters", "read"), ("GET", "/openapi.json", "read"), ("GET", "/anything/else", "read"),
        ("POST", "/api/token", "read"), ("POST", "/api/publish", "publish"), ("POST", "/api/publish/batch", "publish"),
        ("POST", "/api/replays", "operate"), ("POST", "/api/letters/archive", "operate"), ("POST", "/", "operate"),
        ("DELETE", "/static/api.js", "operate"), ("POST", "/api/drill", "operate"),
    ],
)  # fmt: skip
def test_every_path_that_is_not_known_as_open_needs_a_right(method: str, path: str, right: str | None):
    assert right_for(method, path) == right
