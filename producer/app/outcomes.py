"""Asks listeners for the outcomes of events, for the page. Its HTTP library is imported by the first question."""

from typing import TYPE_CHECKING, Any

import msgspec

from unlost.producer.app.settings import ProducerSettings

if TYPE_CHECKING:
    import httpx


class _Stories(msgspec.Struct):
    """A listener's answer to ``/api/outcomes``."""

    instance: str
    outcomes: dict[str, list[dict[str, Any]]]


_stories = msgspec.json.Decoder(_Stories)


class Outcomes:
    """A client of the listeners that the settings name."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def of(self, url: str, ids: str) -> dict[str, Any]:
        """Return a listener's name and the outcomes that it knows; ``error`` if it does not answer so."""
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=2.0, trust_env=False, **self._settings.client())
        try:
            response = await self._client.get(f"{url.rstrip('/')}/api/outcomes", params={"ids": ids})
            response.raise_for_status()
            return msgspec.to_builtins(_stories.decode(response.content))  # type: ignore[no-any-return]
        except (httpx.HTTPError, httpx.InvalidURL, OSError, msgspec.DecodeError) as error:
            return {"error": str(error) or type(error).__name__}

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
