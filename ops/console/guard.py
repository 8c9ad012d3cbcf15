"""Access control of the console: only its own pages may use it, and changes need the token, if one is set.

A page of another site can make a visitor's browser send requests here (CSRF). So a request that changes something must
have a header that a foreign page can add only after a CORS preflight, which we never grant. It must also come from our
own origin, and have the token if one is set. With DNS rebinding, a foreign name that points to this address would
be "our own origin" to the browser. So the console answers only to its configured host names.
"""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_HEADER = "x-unlost-console"
READING = ("GET", "HEAD")
OPEN_PATHS = ("/health", "/health/live", "/health/ready", "/metrics")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HARDENING = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def refusal(method: str, headers: Mapping[str, str], *, names: frozenset[str], token: str) -> tuple[int, str] | None:
    """Return the status and the reason for refusing a request; None if it may pass."""
    host = headers.get("host", "")
    if _host_name(host) not in names:
        return 421, f"this console is not called {host!r}; add the name to CONSOLE_NAMES if it is"
    if method in READING:
        return None
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return 403, "pages of other sites may not use this console"
    origin = headers.get("origin")
    if origin is not None and _netloc(origin) != host.lower():
        return 403, f"pages of {origin} may not use this console"
    if headers.get(OWN_HEADER) != "1":
        return 403, f"a request that changes something needs the header {OWN_HEADER}: 1"
    if token and not hmac.compare_digest(headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
        return 401, "this needs the console's token (CONSOLE_TOKEN)"
    return None


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class Guard:
    """Middleware that applies ``refusal`` and adds security headers to each response."""

    def __init__(self, app: ASGIApp, *, names: frozenset[str], token: str) -> None:
        self._app = app
        self._names = names
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the application."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        refused = refusal(scope["method"], Headers(scope=scope), names=self._names, token=self._token)
        if refused is None:
            await self._app(scope, receive, _hardened(send))
            return
        status, why = refused
        await JSONResponse({"error": why}, status)(scope, receive, _hardened(send))


def _hardened(send: Send) -> Send:
    added = [(name.encode(), value.encode()) for name, value in HARDENING.items()]

    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return hardened
