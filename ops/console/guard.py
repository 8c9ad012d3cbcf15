"""The console's protection against forged requests (CSRF): only its own page may change something.

A page of another site can make a visitor's browser send requests here. So a request that changes something must have a
header that a foreign page can add only after a CORS preflight, which we never grant. Names and origins are checked by
the gate (``ops/kit/access``).
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unlost.ops.console.signin.settings import CALLBACK, SIGN_IN
from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.middleware import refused
from unlost.ops.kit.access.request import AccessRequest, Refusal
from unlost.ops.kit.telemetry.health import HEALTH_PATHS

OWN_HEADER = "x-unlost-console"
READING = ("GET", "HEAD")
OPEN = (*HEALTH_PATHS, "/", SIGN_IN, CALLBACK, "/api/signin")
PUBLISHING = ("/api/publish", "/api/publish/batch")
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


def right_for(method: str, path: str) -> Right | None:
    """The right that a request needs. The page itself is open: it asks for a token, or to sign in."""
    if method in READING:
        return None if path in OPEN or path.startswith("/static/") else "read"
    if path == "/api/signout":
        return None
    if path == "/api/token":
        return "read"
    return "publish" if path in PUBLISHING else "operate"


def forged(method: str, headers: Mapping[str, str]) -> str:
    """Why a request may come from a page of another site; an empty text if it does not."""
    if method in READING:
        return ""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return "pages of other sites may not use this console"
    if headers.get(OWN_HEADER) != "1":
        return f"a request that changes something needs the header {OWN_HEADER}: 1"
    return ""


class CsrfGuard:
    """Middleware that refuses what may be forged."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the application."""
        why = forged(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else ""
        if not why:
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        asked = AccessRequest(f"{scope['method']} {scope['path']}", client[0] if client else "", "operate")
        refusal = Refusal(403, "csrf", why)
        self._gate.refused(asked, refusal)
        await refused(refusal)(scope, receive, send)


class Hardened:
    """Middleware that adds security headers to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._added = [(name.encode(), value.encode()) for name, value in HARDENING.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add them."""

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._added]}
            await send(message)

        await self._app(scope, receive, hardened)
