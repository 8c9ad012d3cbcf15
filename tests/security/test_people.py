"""People whom a proxy signs in: their rights come from their groups, and only a proxy can name them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from unlost.ops.kit.access.table import TokenEntry
from unlost.ops.kit.access.token_file import load_entries, save_entries

EVENT = {"event_id": "e", "payload": {}}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningProducer, Tokens]]:
    """A producer that knows a proxy, and two groups of people."""
    directory: Path = tmp_path_factory.mktemp("people")
    tokens = Tokens(directory / "tokens.jsonl")
    tokens.add("proxy", "vouch", "admin")
    tokens.add("ana", "admin", "read")
    groups = [
        TokenEntry("watchers", ("read",), subject="group:watchers"),
        TokenEntry("publishers", ("publish", "vouch"), subject="group:publishers"),
    ]
    save_entries(tokens.file, [*load_entries(tokens.file), *groups])
    one = RunningProducer(directory / "journal.sqlite", {"TOKENS_FILE": str(tokens.file)})
    one.start()
    yield one, tokens
    one.end()


def asked(proxied: tuple[RunningProducer, Tokens], method: str, by: str, *more: tuple[str, str]) -> httpx.Response:
    producer, tokens = proxied
    body: dict[str, Any] = {"json": EVENT} if method == "POST" else {}
    path = "/publish" if method == "POST" else "/metrics"
    return producer.http.request(method, path, headers=[*tokens.bearer(by).items(), *more], **body)


def user(name: str) -> tuple[str, str]:
    return "x-unlost-user", name


def groups(names: str) -> tuple[str, str]:
    return "x-unlost-groups", names


def test_a_person_has_the_rights_of_all_groups_that_are_known(proxied):
    assert asked(proxied, "GET", "proxy", user("eva@bank.example"), groups("others, watchers")).status_code == 200
    refused = asked(proxied, "POST", "proxy", user("eva@bank.example"), groups("watchers"))
    assert refused.status_code == 403
    assert "eva@bank.example (proxy) does not have the right publish" in refused.text
    assert asked(proxied, "POST", "proxy", user("eva"), groups("watchers,publishers")).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (user("eva"),),
        (user("eva"), groups("others")),
        (groups("watchers"),),
        (user(""), groups("watchers")),
        (user("eva\tadmin"), groups("watchers")),
        (user("eva"), user("ana"), groups("watchers")),
        (user("eva"), groups("others"), groups("watchers")),
        (user("x" * 129), groups("watchers")),
    ],
)
def test_a_proxy_has_no_rights_of_its_own_and_odd_headers_name_nobody(proxied, headers: tuple[tuple[str, str], ...]):
    assert asked(proxied, "GET", "proxy", *headers).status_code == 403


def test_nobody_but_a_proxy_names_people(proxied):
    producer, _ = proxied
    assert asked(proxied, "POST", "ana", user("eva"), groups("publishers")).status_code in (202, 409), "she is an admin"
    direct = producer.http.get("/metrics", headers=[user("eva"), groups("watchers")])
    assert direct.status_code == 401
    chained = asked(proxied, "GET", "proxy", user("eva"), groups("publishers"))
    assert chained.status_code == 403, "a group cannot be given the right to vouch"
