"""The identity provider: its description, its token endpoint and its keys, over HTTP. Raises ``SignInFailed``.

The keys are fetched at each sign-in, so a key that the provider replaces needs no care. Answers of the provider are
limited in size and time. No error quotes an answer, since it may contain a token.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
import msgspec

from unlost.ops.console.signin.attempt import SignInAttempt
from unlost.ops.console.signin.failed import SignInFailed, provider_failed
from unlost.ops.console.signin.id_token import Claims, verified
from unlost.ops.console.signin.settings import is_safe
from unlost.ops.kit.command import Secret

SECONDS = 8.0
"""For one request."""
MAX_ANSWER = 512 * 1024
MOST_AT_ONCE = 16
"""Sign-ins that end at the same moment."""
DESCRIBED_FOR = 300.0
"""Seconds for which the provider's description is kept."""
PLAIN = {"accept": "application/json", "accept-encoding": "identity"}
_code = re.compile(r"[A-Za-z0-9_.-]{1,60}")


@dataclass(frozen=True, slots=True)
class Client:
    """This console as the provider knows it."""

    issuer: str
    client_id: str
    secret: Secret
    redirect_url: str
    scope: str


class Description(msgspec.Struct, frozen=True):
    """The provider's description of itself, as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Provider:
    """One provider."""

    def __init__(self, client: Client, verify: ssl.SSLContext) -> None:
        self._client = client
        self._http = httpx.AsyncClient(verify=verify, timeout=SECONDS, follow_redirects=False, headers=PLAIN)
        self._described: tuple[float, Description] | None = None
        self._running = 0

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def authorization_url(self, attempt: SignInAttempt) -> str:
        """Where the browser goes to sign in."""
        with self._place():
            endpoint = (await self._description()).authorization_endpoint
        query = urlencode({
            "response_type": "code", "client_id": self._client.client_id, "redirect_uri": self._client.redirect_url,
            "scope": self._client.scope, "state": attempt.state, "nonce": attempt.nonce,
            "code_challenge": attempt.challenge, "code_challenge_method": "S256",
        })  # fmt: skip
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{query}"

    async def claims(self, answer: Mapping[str, str], attempt: SignInAttempt) -> Claims:
        """Return the claims of the person whom the provider has sent back with this answer."""
        with self._place():
            described = await self._description()
            code = _code_in(answer, described)
            token = await self._token(described, code, attempt)
            keys = await self._json("GET", described.jwks_uri)
        return verified(token, keys, issuer=self._client.issuer, client_id=self._client.client_id, nonce=attempt.nonce)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= MOST_AT_ONCE:
            raise SignInFailed("too many people sign in at this moment; try again", status=503)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _description(self) -> Description:
        now = time.monotonic()
        if self._described is not None and now - self._described[0] < DESCRIBED_FOR:
            return self._described[1]
        url = f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            described = msgspec.convert(await self._json("GET", url), Description)
        except msgspec.ValidationError as error:
            raise provider_failed(f"describes itself in another form: {error}") from None
        if described.issuer != self._client.issuer:
            raise provider_failed("has another name than OIDC_ISSUER; each character counts")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not is_safe(getattr(described, name)):
                raise provider_failed(f"has no https address as its {name}")
        self._described = now, described
        return described

    async def _token(self, described: Description, code: str, attempt: SignInAttempt) -> str:
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._client.redirect_url,
            "client_id": self._client.client_id, "code_verifier": attempt.verifier,
        }  # fmt: skip
        secret, auth = self._client.secret.reveal(), None
        if secret and "client_secret_basic" in described.token_endpoint_auth_methods_supported:
            auth = httpx.BasicAuth(quote_plus(self._client.client_id), quote_plus(secret))  # RFC 6749, section 2.3.1
        elif secret:
            form["client_secret"] = secret
        answer = await self._json("POST", described.token_endpoint, data=form, auth=auth)
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise provider_failed("sent no ID token; is openid in OIDC_SCOPE?")
        return token

    async def _json(self, method: str, url: str, **more: Any) -> Any:
        """Ask, within the limits."""
        try:
            async with asyncio.timeout(SECONDS), self._http.stream(method, url, **more) as response:
                content = b""
                async for piece in response.aiter_raw():
                    content += piece
                    if len(content) > MAX_ANSWER:
                        raise provider_failed(f"sent more than {MAX_ANSWER:,} bytes")
        except TimeoutError:
            raise provider_failed(f"did not answer within {SECONDS:g} s") from None
        except httpx.TimeoutException:
            raise provider_failed(f"did not answer within {SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise provider_failed(f"at {urlsplit(url).hostname} cannot be reached ({type(error).__name__})") from None
        try:
            decoded = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = None
        if response.status_code != 200:
            raise _refused(response.status_code, decoded)
        return decoded


def _code_in(answer: Mapping[str, str], described: Description) -> str:
    """The code in what the browser brings. ``iss`` says which provider sent it (RFC 9207)."""
    if answer.get("iss", described.issuer) != described.issuer or (
        described.authorization_response_iss_parameter_supported and "iss" not in answer
    ):
        raise SignInFailed("another identity provider answered (iss)")
    if "error" in answer:
        raise _refused(200, answer)
    if not answer.get("code"):
        raise SignInFailed("the answer has no code", status=400)
    return answer["code"]


def _refused(status: int, answer: object) -> SignInFailed:
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if isinstance(error, str) and _code.fullmatch(error):
        return provider_failed(f"refused: {error}")
    return provider_failed(f"answered {status} without a reason that can be shown")
