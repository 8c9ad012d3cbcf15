"""How people sign in and out. The gate (``ops/kit/access``) decides what a session allows.

- ``/signin`` sends the browser to the provider, with a cookie of ten minutes (``attempt.py``). That one is ``Lax``: the
  provider's page sends the person back, and a ``Strict`` cookie would not come along.
- ``/signin/callback`` changes the code into a session, whose cookie is ``Strict``, and sends the browser to the page.
  The page itself needs no cookie. Its requests come from its own site, so they carry the cookie.
- Neither takes an address to return to, so nobody can make them lead elsewhere.
"""

import html
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from unlost.ops.console.signin.attempt import COOKIE, HOST_COOKIE, PATIENCE, Attempts
from unlost.ops.console.signin.failed import SignInFailed
from unlost.ops.console.signin.id_token import person_of
from unlost.ops.console.signin.provider import Client, Provider
from unlost.ops.console.signin.settings import CALLBACK
from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.middleware import PASSED, cookie_of
from unlost.ops.kit.access.request import AccessRequest, Refusal
from unlost.ops.kit.access.sessions import LIFETIME, Sessions
from unlost.ops.kit.telemetry.mask import masked

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not signed in · Unlost</title>
<link rel="stylesheet" href="/static/console.css"></head>
<body><main><h1>Not signed in</h1><p role="alert">{why}.</p><p><a href="/">Back to the console</a></p></main></body>
</html>
"""


class SignIn:
    """The sign-in of one console."""

    def __init__(
        self, gate: Gate, provider: Provider, client: Client, groups_claim: str, clock: Callable[[], float]
    ) -> None:
        self._gate = gate
        self._provider = provider
        self._groups_claim = groups_claim
        self._home = f"{client.redirect_url.removesuffix(CALLBACK)}/"
        secure = urlsplit(client.redirect_url).scheme == "https"
        self._cookie = HOST_COOKIE if secure else COOKIE
        self._attempts = Attempts(clock)
        self._sessions = gate.sessions = Sessions(clock, secure=secure)

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._provider.close()

    async def begin(self, request: Request) -> Response:
        """Send the browser to the provider."""
        attempt = self._attempts.begin()
        try:
            url = await self._provider.authorization_url(attempt)
        except SignInFailed as failed:
            return self._failed(request, failed)
        response = RedirectResponse(url, 303)
        self._set_cookie(response, self._cookie, attempt.cookie, PATIENCE, "lax")
        return response

    async def end(self, request: Request) -> Response:
        """Begin a session for the person whom the provider has sent back."""
        try:
            session = await self._session(request)
        except SignInFailed as failed:
            response = self._failed(request, failed)
        else:
            response = RedirectResponse("/", 303)
            self._set_cookie(response, self._sessions.cookie, session, LIFETIME, "strict")
        self._set_cookie(response, self._cookie, "", 0, "lax")
        return response

    async def _session(self, request: Request) -> str:
        answer = request.query_params
        if any(len(answer.getlist(name)) > 1 for name in ("state", "code", "iss", "error")):
            raise SignInFailed("the provider's answer has a part twice", status=400)
        attempt = self._attempts.known(
            cookie_of(request.headers.getlist("cookie"), self._cookie), answer.get("state", "")
        )
        if attempt is None:
            raise SignInFailed(
                f"this sign-in did not begin in this browser at {self._home}, or began more than {PATIENCE // 60} "
                "minutes ago: begin again"
            )
        person = person_of(await self._provider.claims(answer, attempt), self._groups_claim)
        structlog.get_logger().info("signed_in", who=person.user, address=_address(request))
        return self._sessions.begin(person)

    async def out(self, request: Request) -> Response:
        """End the session of this browser."""
        person = self._sessions.end(request.scope[PASSED].session)
        if person is not None:
            structlog.get_logger().info("signed_out", who=person.user, address=_address(request))
        response = JSONResponse({"oidc": True, "user": None})
        self._set_cookie(response, self._sessions.cookie, "", 0, "strict")
        return response

    def user(self, request: Request) -> str | None:
        """Return the person who has signed in in this browser."""
        person = self._sessions.person_of(request.scope[PASSED].session)
        return person.user if person else None

    def _set_cookie(
        self, response: Response, name: str, value: str, seconds: int, same_site: Literal["lax", "strict"]
    ) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._sessions.secure, httponly=True, samesite=same_site
        )

    def _failed(self, request: Request, failed: SignInFailed) -> Response:
        """Say why, and count it."""
        asked = AccessRequest(f"GET {request.url.path}", _address(request), None)
        self._gate.refused(asked, Refusal(failed.status, failed.reason, failed.why))
        why = masked(failed.why)
        return HTMLResponse(PAGE.format(why=html.escape(f"{why[:1].upper()}{why[1:]}")), failed.status)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
