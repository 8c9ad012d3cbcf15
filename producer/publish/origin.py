"""Which web pages may publish: our own, and configured origins."""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SameSite:
    """Refuses to publish for pages of other sites, which could use a visitor's browser to reach this producer.

    The page on the stream's port is our own, though to a browser it has another origin. So it may read the answers.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...], stream_port: Callable[[], int]) -> None:
        self._app = app
        self._allowed = allowed
        self._stream_port = stream_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless it is a POST from a foreign page."""
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        origin, host = headers.get(b"origin", ""), headers.get(b"host", "")
        if not origin or _netloc(origin) == host:
            await self._app(scope, receive, send)
        elif origin in self._allowed or self._is_own_page(origin, host):
            await self._app(scope, receive, _readable_by(origin, send))
        elif scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        else:
            refusal = JSONResponse({"status": "forbidden", "error": f"pages of {origin} may not publish here"}, 403)
            await refusal(scope, receive, send)

    def _is_own_page(self, origin: str, host: str) -> bool:
        try:
            page = urlsplit(origin)
            return page.port == self._stream_port() and page.hostname == urlsplit(f"//{host}").hostname
        except ValueError:
            return False


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _readable_by(origin: str, send: Send) -> Send:
    async def readable(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return readable
