"""A sign-in that would be unsafe, or could not work, does not start."""

from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from unlost.ops.console.daemon import ConsoleDaemon
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.access.hosts import Hosts
from unlost.ops.kit.command import UsageProblem

GOOD = {
    "oidc_issuer": "https://login.example/realms/bank",
    "oidc_client_id": "unlost",
    "oidc_redirect_url": "https://console.example/signin/callback",
}


@pytest.fixture
def good(tmp_path: Path) -> dict[str, str]:
    tokens = tmp_path / "tokens.jsonl"
    tokens.touch()
    return GOOD | {"tokens_file": str(tokens), "database_url": "postgresql:///d", "letters": "", "listeners": ""}


def test_the_name_to_which_people_come_back_is_known_and_cookies_are_secure(good: dict[str, str]):
    settings = ConsoleSettings.load(good)
    assert Hosts.of(settings.own_names()).knows("console.example")
    gate = settings.gate(CollectorRegistry())
    assert settings.sign_in(gate, lambda: 0.0) is not None
    assert gate.sessions is not None
    assert gate.sessions.secure
    assert gate.sessions.cookie == "__Host-unlost"


async def test_without_a_provider_nobody_is_sent_anywhere(good: dict[str, str]):
    daemon = ConsoleDaemon(ConsoleSettings.load(good | {"oidc_issuer": ""}))
    transport = httpx.ASGITransport(app=daemon.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/api/signin")).json() == {"oidc": False, "user": None}
        assert (await client.get("/signin")).status_code == 404
        assert (await client.get("/signin/callback")).status_code == 404
        assert (await client.get("/api/overview", headers={"cookie": "unlost=x"})).status_code == 401


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"oidc_issuer": "http://login.example"}, "must be an https address"),
        ({"oidc_issuer": "https://user:pw@login.example"}, "must be an https address"),
        ({"oidc_issuer": "https://login.example?x=1"}, "must be an https address"),
        ({"oidc_issuer": "login.example"}, "must be an https address"),
        ({"tokens_file": None}, "needs --tokens-file"),
        ({"oidc_client_id": ""}, "needs --oidc-client-id"),
        ({"oidc_scope": "email"}, "openid in --oidc-scope"),
        ({"oidc_redirect_url": ""}, "is the console's https address"),
        ({"oidc_redirect_url": "http://console.example/signin/callback"}, "is the console's https address"),
        ({"oidc_redirect_url": "https://console.example/"}, "/signin/callback at its end"),
        ({"oidc_redirect_url": "https://[/signin/callback"}, "/signin/callback at its end"),
        ({"oidc_ca": "/nowhere.pem"}, "--oidc-ca"),
    ],
)
def test_a_wrong_setting_is_one_sentence(good: dict[str, str], change: dict[str, str], why: str):
    with pytest.raises(UsageProblem, match=why) as refused:
        ConsoleSettings.load(good | change)
    assert len(refused.value.problems) == 1
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1:3006", "localhost:3006", "[::1]:3006"])
def test_this_machine_needs_no_https(good: dict[str, str], host: str):
    here = {"oidc_issuer": f"http://{host}", "oidc_redirect_url": f"http://{host}/signin/callback"}
    ConsoleSettings.load(good | here)
