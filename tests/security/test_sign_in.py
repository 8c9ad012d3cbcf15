"""People sign in to a running console by OpenID Connect, and nobody gets in by a forged or foreign answer."""

import contextlib
import hashlib
import hmac
import html
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.consoles import OWN, RunningConsole, people_of, running_console, token_of
from tests.support.letters import letter, write
from tests.support.oidc import CLIENT, EVA, IdentityProvider, Key, identity_provider, packed, text
from unlost.dlq.record.trail import read, trail_beside
from unlost.ops.kit.access.sessions import LIFETIME

pytestmark = pytest.mark.timeout(180)  # consoles are started
NAME = "eva@bank.example (oidc 248289)"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as one:
        yield one


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, provider: IdentityProvider) -> Iterator[RunningConsole]:
    directory = tmp_path_factory.mktemp("console")
    letters = write(directory / "letters.jsonl", [letter("a", message="no cover")])
    with running_console(directory, provider, LETTERS=str(letters)) as one:
        yield one


@pytest.fixture(autouse=True)
def _honest(provider: IdentityProvider) -> None:
    """The provider is as it should be, until a test changes it."""
    fresh = IdentityProvider(provider.issuer)
    for name in ("person", "header", "described", "published", "sign", "answers", "refuses"):
        setattr(provider, name, getattr(fresh, name))


@pytest.fixture
def eva(console: RunningConsole) -> Iterator[httpx.Client]:
    """The browser of somebody who has signed in."""
    with console.browser() as browser:
        assert browser.get("/signin").status_code == 200
        yield browser


def got(url: str, **headers: str) -> httpx.Response:
    """What a client without cookies gets."""
    with httpx.Client(trust_env=False, verify=False) as client:
        return client.get(url, headers=headers)


def counted(console: RunningConsole, reason: str) -> float:
    reader = token_of(console.tokens, f"reader-{time.monotonic_ns()}", "read")
    deadline = time.monotonic() + 5
    while (answer := got(f"{console.url}/metrics", authorization=f"Bearer {reader}")).is_error:
        assert time.monotonic() < deadline
    found = re.search(rf'unlost_refused_requests_total{{reason="{reason}"}} (.*)', answer.text)
    assert found
    return float(found[1])


def test_a_person_signs_in_has_the_rights_of_the_groups_and_stands_in_the_trail(
    console: RunningConsole, provider: IdentityProvider, eva: httpx.Client
):
    assert eva.get("/api/signin").json() == {"oidc": True, "user": NAME}
    assert eva.get("/api/overview").status_code == 200
    (one,) = eva.get("/api/letters").json()["letters"]
    body = {"everything": True, "file": one["file"], "why": "a test"}
    archived = eva.post("/api/letters/archive", json=body, headers=OWN)
    assert archived.status_code == 200, archived.text
    trail = [entry.who for entry in read(trail_beside(console.tokens.with_name("letters.jsonl")))]
    assert trail == [f"{NAME} (console)"]
    refused = eva.post("/api/publish", json={"event_id": "e", "payload": {}}, headers=OWN)
    assert refused.status_code == 403
    assert f"{NAME} does not have the right publish" in refused.text
    assert provider.asked[-4:] == ["/authorize", "/.well-known/openid-configuration", "/token", "/keys"] or (
        provider.asked[-3:] == ["/authorize", "/token", "/keys"]
    )


def test_rights_follow_the_file_of_tokens_at_once_and_nobody_has_any_without_a_group(
    console: RunningConsole, provider: IdentityProvider, eva: httpx.Client
):
    people_of(console.tokens, "oncall")
    deadline = time.monotonic() + 2
    while eva.get("/api/overview").status_code == 200:
        assert time.monotonic() < deadline
    assert "does not have the right read" in eva.get("/api/overview").text
    assert eva.get("/api/signin").json()["user"] == NAME
    people_of(console.tokens, "oncall", "read", "operate")
    while eva.get("/api/overview").status_code == 403:
        assert time.monotonic() < deadline + 2
    provider.person = EVA | {"groups": ["somebody"]}
    with console.browser() as browser:
        browser.get("/signin")
        assert browser.get("/api/overview").status_code == 403


def test_the_cookies_are_as_they_should_be(console: RunningConsole):
    with console.browser() as browser:
        browser.follow_redirects = False
        first = browser.get("/signin")
        assert first.status_code == 303
        assert first.headers["set-cookie"].endswith("; HttpOnly; Max-Age=600; Path=/; SameSite=lax")
        there = got(first.headers["location"])
        ended = browser.get(there.headers["location"])
        assert (ended.status_code, ended.headers["location"]) == (303, "/")
        session, attempt = ended.headers.get_list("set-cookie")
        assert re.fullmatch(r"unlost=[\w-]{43}; HttpOnly; Max-Age=3600; Path=/; SameSite=strict", session)
        assert attempt == 'unlost-signin=""; HttpOnly; Max-Age=0; Path=/; SameSite=lax'
        assert LIFETIME == 3600
        assert ended.headers["referrer-policy"] == "no-referrer"
        assert ended.headers["cache-control"] == "no-store"


def test_a_session_ends_at_the_sign_out_and_its_cookie_is_worth_nothing_after(
    console: RunningConsole, eva: httpx.Client
):
    kept = f"unlost={eva.cookies['unlost']}"
    assert got(f"{console.url}/api/letters", cookie=kept).status_code == 200
    assert eva.post("/api/signout").status_code == 403, "a page of another site cannot send our header"
    assert eva.post("/api/signout", headers=OWN).json() == {"oidc": True, "user": None}
    assert "unlost" not in eva.cookies
    again = got(f"{console.url}/api/letters", cookie=kept)
    assert (again.status_code, again.json()["error"]) == (401, "this session has ended; sign in again")
    assert eva.get("/api/letters").status_code == 401


def test_a_session_counts_for_no_other_page_and_a_token_stands_before_it(console: RunningConsole, eva: httpx.Client):
    for site in ("same-site", "cross-site"):
        assert eva.get("/api/letters", headers={"sec-fetch-site": site}).status_code == 401
    assert eva.get("/api/letters", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert eva.get("/api/letters", headers={"authorization": "Bearer wrong"}).status_code == 401
    twice = f"unlost={eva.cookies['unlost']}; unlost=x"
    assert got(f"{console.url}/api/letters", cookie=twice).status_code == 401


@contextlib.contextmanager
def begun(console: RunningConsole) -> Iterator[tuple[httpx.Client, str]]:
    """A browser that has come back from the provider, but whose last request is not sent yet."""
    with console.browser() as browser:
        browser.follow_redirects = False
        yield browser, got(browser.get("/signin").headers["location"]).headers["location"]


def test_an_answer_of_another_browser_or_sign_in_begins_no_session(console: RunningConsole):
    before = counted(console, "signin")
    with begun(console) as (one, answer), begun(console) as (other, others_answer), console.browser() as stranger:
        for browser, url in ((stranger, answer), (one, others_answer), (other, answer.replace("state=", "state=x"))):
            refused = browser.get(url)
            assert refused.status_code == 403
            assert "this sign-in did not begin in this browser" in refused.text.lower()
            assert "unlost" not in browser.cookies
        assert one.get(answer.replace("iss=", "iss=http%3A%2F%2Fevil")).status_code == 403, "its cookie is gone now"
    assert counted(console, "signin") == before + 4


@pytest.mark.parametrize(
    ("change", "status", "why"),
    [
        (
            lambda url: re.sub(r"iss=[^&]*", "iss=http://evil.example", url),
            403,
            "Another identity provider answered (iss).",
        ),
        (lambda url: re.sub(r"&iss=[^&]*", "", url), 403, "Another identity provider answered (iss)."),
        (lambda url: re.sub(r"&code=[^&]*", "", url), 400, "The answer has no code."),
        (lambda url: f"{url}&code=other", 400, "The provider's answer has a part twice."),
        (lambda url: re.sub(r"code=[^&]*", "code=guessed", url), 502, "The identity provider refused: invalid_grant."),
    ],
)
def test_a_changed_answer_is_refused_in_one_sentence(
    console: RunningConsole, change: Callable[[str], str], status: int, why: str
):
    with begun(console) as (browser, answer):
        refused = browser.get(change(answer))
    assert refused.status_code == status
    assert html.escape(why) in refused.text
    assert "unlost" not in browser.cookies


def test_a_code_counts_once(console: RunningConsole):
    with begun(console) as (browser, answer):
        cookie = browser.cookies["unlost-signin"]
        assert browser.get(answer).status_code == 303
        browser.cookies.set("unlost-signin", cookie)
        assert browser.get(answer).status_code == 502


OTHER = Key("other")
CURVE = Key("curve", "ES256")


def hmac_with_the_public_key(provider: IdentityProvider) -> Callable[[bytes], bytes]:
    return lambda signed: hmac.digest(str(provider.key.public()["n"]).encode(), signed, hashlib.sha256)


HOUR = timedelta(hours=1)
"""From now on, that is from when the test runs."""
WRONG_CLAIMS = [
    {"iss": "http://127.0.0.1:1"}, {"iss": None}, {"aud": "another"}, {"aud": None}, {"aud": []},
    {"aud": [CLIENT, "another"]}, {"azp": "another"}, {"exp": -HOUR}, {"exp": None}, {"exp": "tomorrow"},
    {"exp": True}, {"iat": HOUR}, {"iat": None}, {"nbf": HOUR}, {"nonce": "another"}, {"nonce": None},
    {"nonce": [1]}, {"sub": None}, {"sub": ""}, {"sub": "a\nb"}, {"sub": "ü"}, {"sub": "x" * 256}, {"sub": 7},
    {"groups": None}, {"groups": 7}, {"groups": [7]}, {"groups": {"oncall": True}},
]  # fmt: skip


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=str)
def test_a_token_with_a_wrong_claim_begins_no_session(
    console: RunningConsole, provider: IdentityProvider, claims: dict[str, object]
):
    provider.person = EVA | {
        name: int(time.time() + value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in claims.items()
    }
    with begun(console) as (browser, answer):
        refused = browser.get(answer)
        assert refused.status_code in (403, 502)
        assert "Not signed in" in refused.text
        assert "unlost" not in browser.cookies


@pytest.mark.parametrize("forgery", ["none", "HS256", "other key", "changed", "no such key", "no key", "own key"])
def test_a_token_with_a_wrong_signature_begins_no_session(
    console: RunningConsole, provider: IdentityProvider, forgery: str
):
    match forgery:
        case "none":
            provider.header, provider.sign = {"alg": "none"}, lambda signed: b""
        case "HS256":
            provider.header, provider.sign = {"alg": "HS256"}, hmac_with_the_public_key(provider)
        case "other key":
            provider.sign = OTHER.sign
        case "changed":
            provider.sign = lambda signed: provider.key.sign(signed + b".")
        case "no such key":
            provider.header = {"kid": "gone"}
        case "no key":
            provider.published = []
        case "own key":
            provider.header, provider.sign = {"jwk": OTHER.public(), "kid": None}, OTHER.sign
            provider.published = [provider.key, CURVE]
    with begun(console) as (browser, answer):
        refused = browser.get(answer)
    assert refused.status_code == 502
    assert "the identity provider sent" in refused.text.lower()
    assert "unlost" not in browser.cookies


def test_keys_are_replaced_without_a_pause_and_curves_are_known(console: RunningConsole, provider: IdentityProvider):
    first = provider.key
    try:
        for key in (CURVE, OTHER):
            provider.key = key
            with begun(console) as (browser, answer):
                assert browser.get(answer).status_code == 303
    finally:
        provider.key = first


@pytest.mark.parametrize(
    ("person", "user"),
    [
        ({"preferred_username": None}, "248289 (oidc)"),
        ({"preferred_username": "<b>eva</b>"}, "248289 (oidc)"),
        ({"preferred_username": "eva (console)"}, "248289 (oidc)"),
        ({"preferred_username": None, "email": "e@bank.example"}, "e@bank.example (oidc 248289)"),
        ({"preferred_username": None, "email": "e@bank.example", "email_verified": False}, "248289 (oidc)"),
        ({"groups": "oncall"}, NAME),
        ({"aud": [CLIENT, "another"], "azp": CLIENT}, NAME),
    ],
)
def test_a_person_has_a_name_that_cannot_be_taken_for_another(
    console: RunningConsole, provider: IdentityProvider, person: dict[str, object], user: str
):
    provider.person = EVA | person
    with console.browser() as browser:
        browser.get("/signin")
        assert browser.get("/api/signin").json()["user"] == user


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"/token": (500, {"error_description": "token=abc"})}, "answered 500 without a reason that can be shown"),
        ({"/token": (400, {"error": "<script>alert(1)</script>"})}, "answered 400 without a reason"),
        ({"/token": (401, {"error": "invalid_client"})}, "refused: invalid_client"),
        ({"/token": (200, {"access_token": "x"})}, "sent no ID token"),
        ({"/token": (200, [1])}, "sent no ID token"),
        ({"/token": (200, {"id_token": "x"})}, "sent an ID token"),
        ({"/token": (200, {"id_token": f"{packed({'alg': 'RS256'})}.{packed([1])}.{text(b'x')}"})}, "sent an ID token"),
        ({"/token": (200, b"<html>")}, "sent no ID token"),
        ({"/token": (302, {})}, "answered 302"),
        ({"/token": (200, b" " * 600_000)}, "sent more than 524,288 bytes"),
        ({"/keys": (200, {"keys": [{"kty": "RSA"}]})}, "sent an ID token"),
        ({"/keys": (200, b"[" * 200_000)}, "sent an ID token"),
        ({"/keys": (503, {})}, "answered 503"),
    ],
)
def test_a_provider_that_fails_is_one_sentence_and_counted(
    console: RunningConsole, provider: IdentityProvider, answers: dict[str, tuple[int, object]], why: str
):
    before = counted(console, "provider")
    provider.answers = answers
    with begun(console) as (browser, answer):
        refused = browser.get(answer)
    assert refused.status_code == 502
    assert f"The identity provider {why}" in refused.text
    assert "<script" not in refused.text
    assert "Traceback" not in console.log()
    assert counted(console, "provider") == before + 1


def test_a_provider_that_refuses_says_why(console: RunningConsole, provider: IdentityProvider):
    provider.refuses = {"error": "access_denied", "error_description": "<img src=x onerror=alert(1)>"}
    with console.browser() as browser:
        refused = browser.get("/signin")
    assert refused.status_code == 502
    assert "The identity provider refused: access_denied." in refused.text
    assert "<img" not in refused.text


def test_nothing_of_a_sign_in_is_in_the_log(console: RunningConsole, provider: IdentityProvider, eva: httpx.Client):
    session = eva.cookies["unlost"]
    eva.post("/api/signout", headers=OWN)
    lines = console.log()
    assert '"signed_in"' in lines
    assert '"signed_out"' in lines
    assert NAME in lines
    secrets = [session, "s3cret", *provider.tokens]
    assert len(provider.tokens) >= 3, "of this sign-in at least, whichever tests ran before"
    assert [one for one in secrets if one in lines] == []


DESCRIBED: list[tuple[dict[str, Any], str]] = [
    ({"issuer": "http://127.0.0.1:1"}, "has another name than OIDC_ISSUER"),
    ({"token_endpoint": "http://login.example/token"}, "has no https address as its token_endpoint"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "has no https address as its authorization_endpoint"),
    ({"jwks_uri": 7}, "describes itself in another form"),
]


def test_a_provider_that_describes_another_or_is_away_is_refused_and_tokens_still_work(tmp_path: Path):
    with contextlib.ExitStack() as there, contextlib.ExitStack() as here:
        provider = there.enter_context(identity_provider())
        console = here.enter_context(running_console(tmp_path, provider))
        browser = here.enter_context(console.browser())
        for provider.described, why in DESCRIBED:
            refused = browser.get("/signin")
            assert refused.status_code == 502
            assert why in refused.text
        there.close()
        refused = browser.get("/signin")
        assert refused.status_code == 502
        assert "The identity provider at 127.0.0.1 cannot be reached (ConnectError)." in refused.text
        bearer = {"authorization": f"Bearer {token_of(console.tokens, 'ana', 'read')}"}
        deadline = time.monotonic() + 5
        while browser.get("/api/overview", headers=bearer).status_code != 200:
            assert time.monotonic() < deadline


def test_the_browser_takes_no_secret_to_the_provider(console: RunningConsole):
    with console.browser() as browser:
        browser.follow_redirects = False
        sent = parse_qs(urlsplit(browser.get("/signin").headers["location"]).query)
        cookie = browser.cookies["unlost-signin"]
    assert sent["redirect_uri"] == [f"{console.url}/signin/callback"]
    assert sent["code_challenge_method"] == ["S256"]
    assert len({sent[name][0] for name in ("state", "nonce", "code_challenge")}) == 3
    assert cookie.split(".")[1] not in str(sent)
