"""Who may use the console: a table of requests."""

import pytest

from unlost.ops.console.guard import OWN_HEADER, refusal

NAMES = frozenset({"127.0.0.1", "localhost", "::1", "console.example"})
OWN = {"host": "127.0.0.1:3006", "origin": "http://127.0.0.1:3006", "sec-fetch-site": "same-origin", OWN_HEADER: "1"}
TOKEN = "a word"


def status(headers: dict[str, str], *, method: str = "POST", token: str = "") -> int:
    refused = refusal(method, headers, names=NAMES, token=token)
    return refused[0] if refused else 200


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 200),
        ({"host": "localhost:3006", "origin": "http://localhost:3006"}, 200),
        ({"host": "[::1]:3006", "origin": "http://[::1]:3006"}, 200),
        ({"host": "CONSOLE.example", "origin": "https://console.example"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({OWN_HEADER: ""}, 403),
        ({"host": "evil.example:3006", "origin": "http://evil.example:3006"}, 421),
        ({"host": ""}, 421),
        ({"host": "[::1"}, 421),
    ],
)
def test_only_own_pages_may_change_something(changed: dict[str, str], expected: int):
    assert status(OWN | changed) == expected


def test_a_program_without_origin_may_change_something_with_the_header_alone():
    assert status({"host": "localhost:3006", OWN_HEADER: "1"}) == 200
    assert status({"host": "localhost:3006"}) == 403


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [("", 401), ("Bearer ", 401), ("Bearer another", 401), (TOKEN, 401), ("Bearer ü", 401), (f"Bearer {TOKEN}", 200)],
)
def test_a_token_is_asked_of_whoever_changes_something(authorization: str, expected: int):
    assert status(OWN | {"authorization": authorization}, token=TOKEN) == expected


def test_reading_needs_a_known_name_alone():
    assert status({"host": "localhost:3006"}, method="GET", token=TOKEN) == 200
    assert status({"host": "evil.example"}, method="GET") == 421
