"""The gate as ASGI middleware for every HTTP server. Paths that are not known to be open need a right."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.request import AccessRequest, Pass, Person, Refusal
from unlost.ops.kit.telemetry.health import HEALTH_PATHS, WITHOUT_DETAILS
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor
from unlost.ops.kit.telemetry.tls import SUBJECT

PASSED = "unlost.passed"
"""Under this key of the scope stands the ``Pass`` of a request."""
USER, GROUPS = b"x-unlost-user", b"x-unlost-groups"
"""A proxy that signs people in names them here. Both are ignored without the token of such a proxy."""
HEADERS = frozenset((b"host", b"origin", b"authorization", b"cookie", b"sec-fetch-site", USER, GROUPS))
OWN_SITES = ("same-origin", "none")
"""What a browser says of a request that a page of ours made, or the person."""
MOST_GROUPS = 100
PERSON = re.compile(r"[A-Za-z0-9@._+:/-]{1,128}")
"""How the name of a person may look."""
PREFLIGHT_SECONDS = "600"
HASTE_SECONDS = 0.1
"""A client that sends too much waits so long for each 429. So one that does not slow down costs little."""

RightFor = Callable[[str, str], Right | None]
"""The right that a method and a path need; None: no right is needed."""


class Access:
    """Asks the gate before each request."""

    def __init__(
        self, app: ASGIApp, gate: Gate, right_for: RightFor, *, is_own_page: Callable[[str, str], bool] | None = None
    ) -> None:
        """``is_own_page``: whether an origin is another port of ours, which may then use this server."""
        self._app = app
        self._gate = gate
        self._right_for = right_for
        self._is_own_page = is_own_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = self._asked(scope)
        passed = self._gate.admit(asked)
        if isinstance(passed, Refusal):
            if passed.reason == "rate":
                await asyncio.sleep(HASTE_SECONDS)
            await refused(passed)(scope, receive, send)
        elif self._is_preflight(scope, asked):
            await _preflight(asked.origin or "")(scope, receive, send)
        else:
            await self._serve(asked, passed, scope, receive, send)

    async def _serve(self, asked: AccessRequest, passed: Pass, scope: Scope, receive: Receive, send: Send) -> None:
        known = {**scope, PASSED: passed, WITHOUT_DETAILS: passed.identity is None}
        readable = send if asked.origin is None else readable_by(asked.origin, send)
        if asked.right is None or self._gate.is_open:
            await self._app(known, receive, readable)
        else:
            going_on = _WhileAllowed(self._gate, passed, asked.right, receive, readable)
            await self._app(known, going_on.receive, going_on.send)

    def _asked(self, scope: Scope) -> AccessRequest:
        method, path = scope["method"], scope["path"]
        values: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in HEADERS:
                values.setdefault(name, []).append(value.decode("latin-1"))
        origin = ", ".join(values[b"origin"]) if b"origin" in values else None  # two are no origin of anybody
        host = values.get(b"host", [""])[0]
        own = origin is not None and self._is_own_page is not None and self._is_own_page(origin, host)
        right = None if method == "OPTIONS" and origin is not None else self._right_for(method, path)
        client = scope.get("client")
        return AccessRequest(
            what=f"{method} {path}", address=client[0] if client else "", right=right,
            hosts=values.get(b"host", ()), origin=origin, authorization=values.get(b"authorization", ()),
            subject=scope.get(SUBJECT, ""), person=person_of(values), session=self._session(values),
            any_host=path in HEALTH_PATHS, own_page=own,
        )  # fmt: skip

    def _session(self, values: Mapping[bytes, Sequence[str]]) -> str:
        """The session of a browser. It does not count for a request of another page, whatever the cookie allows."""
        sessions = self._gate.sessions
        if sessions is None or any(one not in OWN_SITES for one in values.get(b"sec-fetch-site", ())):
            return ""
        return cookie_of(values.get(b"cookie", ()), sessions.cookie)

    def _is_preflight(self, scope: Scope, asked: AccessRequest) -> bool:
        return scope["method"] == "OPTIONS" and asked.origin is not None


class _WhileAllowed:
    """Ends a request whose token is revoked while its body arrives: the rest of it is not read."""

    def __init__(self, gate: Gate, passed: Pass, right: Right, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._passed = passed
        self._right = right
        self._receive = receive
        self._send = send
        self._generation = gate.generation
        self._is_revoked = False

    async def receive(self) -> Message:
        """The next message, or the end."""
        message = await self._receive()
        if self._gate.generation != self._generation:
            self._is_revoked = not self._gate.may_go_on(self._passed, self._right)
        return {"type": "http.disconnect"} if self._is_revoked else message

    async def send(self, message: Message) -> None:
        """Send an answer; the connection ends with it if the body was not read."""
        if self._is_revoked and message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await self._send(message)


def person_of(values: Mapping[bytes, Sequence[str]]) -> Person | None:
    """The person whom a proxy names. A header that stands twice, or looks odd, names nobody."""
    users, groups = values.get(USER, ()), values.get(GROUPS, ())
    if len(users) != 1 or len(groups) > 1 or not PERSON.fullmatch(users[0]):
        return None
    names = [one.strip() for one in groups[0].split(",")] if groups else []
    return Person(users[0], tuple(one for one in names if one)[:MOST_GROUPS])


def cookie_of(headers: Sequence[str], name: str) -> str:
    """The value of a cookie, or an empty text. One that stands twice may have come from somebody else: it is none."""
    pairs = [one.strip().partition("=") for header in headers for one in header.split(";")]
    found = [value for key, _, value in pairs if key == name]
    return found[0] if len(found) == 1 else ""


def redactor_for(scope: Scope, redactor: Redactor) -> Redactor:
    """The redactor for the answer to this request: none for an identity that may read payloads."""
    identity = scope[PASSED].identity
    return UNMASKED if identity is not None and identity.may("read:payload") else redactor


def refused(refusal: Refusal) -> Response:
    """The answer to a refused request."""
    status = HTTPStatus(refusal.status).phrase.lower().replace(" ", "_")
    return JSONResponse({"status": status, "error": refusal.why}, refusal.status, dict(refusal.headers))


def _preflight(origin: str) -> Response:
    """Allow a page that may use this server to send a token. Browsers ask before they do."""
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": PREFLIGHT_SECONDS,
        "vary": "Origin",
    }
    return Response(status_code=204, headers=headers)


def readable_by(origin: str, send: Send) -> Send:
    """Let a page of this origin read the answer."""

    async def readable(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return readable
