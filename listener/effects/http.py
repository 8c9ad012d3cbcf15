"""Sends one effect over HTTP: to an address that was checked, once, within a time limit.

A name is resolved here, and the connection goes to an address that passed the check, not to the name: a second look-up
could lead elsewhere. The certificate is verified for the name. Redirects are not followed, proxies of the environment
are not used, and no connection is kept: one that was verified for a host must not carry a request to another.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from unlost.listener.core.effects import DeliveryOutcome, Effect, EffectRefused, named
from unlost.listener.core.targets import Place, Targets
from unlost.listener.effects.outcomes import judged, judged_by_producer
from unlost.ops.kit.access.webhook import signed
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.tls import ClientTls

if TYPE_CHECKING:
    import httpx

READ_BYTES = 4_096
"""So much of an answer is read: enough to quote it."""
ADDRESSES_TRIED = 3
Judge = Callable[[int, bytes, str, float], DeliveryOutcome]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """The settings of delivery. ``secrets`` and ``tokens`` are those of hosts."""

    targets: Targets = Targets()  # noqa: RUF009  frozen
    timeout: float = 10.0
    secrets: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    tokens: Mapping[str, Sequence[str]] = field(default_factory=dict)
    producer: str = ""
    tls: ClientTls = ClientTls()  # noqa: RUF009  frozen


class HttpChannel:
    """``Channel`` over HTTP. Imports its library and makes its client when first needed: few listeners send."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def send(self, effect: Effect) -> DeliveryOutcome:
        """See ``Channel``."""
        import httpx

        if effect.unreadable:
            return DeliveryOutcome("never", effect.unreadable)
        seconds = self._options.timeout
        try:
            async with asyncio.timeout(seconds):
                if effect.kind == "publish":
                    return await self._publish(effect)
                return await self._post(effect)
        except TimeoutError:
            return DeliveryOutcome("again", f"no complete answer within {seconds:g} s", "timeout")
        except EffectRefused as error:
            return DeliveryOutcome("never", str(error), ours=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return DeliveryOutcome("again", _said(error), type(error).__name__)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _post(self, effect: Effect) -> DeliveryOutcome:
        place = self._options.targets.check(effect.url)
        addresses = [one for one in await addresses_of(place) if self._options.targets.may_call(one)]
        if not addresses:
            raise EffectRefused(
                f"{place[1]} has no address that effects may go to: private ones must be in EFFECT_NETWORKS"
            )
        headers = {**effect.headers, **self._proof(effect, place[1]), "host": named(place)}
        return await self._at_one_of(addresses[:ADDRESSES_TRIED], place, effect, headers)

    async def _at_one_of(
        self, addresses: Sequence[str], place: Place, effect: Effect, headers: Mapping[str, str]
    ) -> DeliveryOutcome:
        import httpx

        *others, last = addresses
        for address in others:
            try:
                return await self._call(_at(effect.url, place, address), place[1], effect, headers, judged)
            except httpx.ConnectError:
                continue
        return await self._call(_at(effect.url, place, last), place[1], effect, headers, judged)

    async def _publish(self, effect: Effect) -> DeliveryOutcome:
        producer = self._options.producer
        if not producer:
            raise EffectRefused("effects cannot publish: EFFECT_PRODUCER is not set")
        host = urlsplit(producer).hostname or ""
        headers = {"content-type": "application/json", **self._authorized(host), "host": urlsplit(producer).netloc}
        return await self._call(f"{producer}/publish", host, effect, headers, judged_by_producer)

    async def _call(
        self, url: str, name: str, effect: Effect, headers: Mapping[str, str], judge: Judge
    ) -> DeliveryOutcome:  # fmt: skip
        client = await self._opened()
        request = {"accept-encoding": "identity", "user-agent": "unlost", **headers}
        extensions = {"sni_hostname": name}
        async with client.stream("POST", url, headers=request, content=effect.body, extensions=extensions) as answer:
            body = b"" if answer.is_success else await _beginning(answer)
            return judge(answer.status_code, body, answer.headers.get("retry-after", ""), time.time())

    def _proof(self, effect: Effect, host: str) -> dict[str, str]:
        secrets = self._options.secrets.get(host, ())
        return {**signed(secrets, effect.key, int(time.time()), effect.body), **self._authorized(host)}

    def _authorized(self, host: str) -> dict[str, str]:
        tokens = self._options.tokens.get(host, ())
        return {"authorization": f"Bearer {tokens[0]}"} if tokens else {}

    async def _opened(self) -> "httpx.AsyncClient":
        import httpx

        async with self._opening:
            if self._client is None:
                verify = await asyncio.to_thread(self._options.tls.context)  # reads all authorities of the system
                self._client = httpx.AsyncClient(
                    verify=verify, trust_env=False, follow_redirects=False,
                    timeout=None, limits=httpx.Limits(max_keepalive_connections=0),  # noqa: S113  see ``send``
                )  # fmt: skip
            return self._client


async def addresses_of(place: Place) -> list[str]:
    """Resolve a host, once."""
    _, host, port = place
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _at(url: str, place: Place, address: str) -> str:
    """Return the URL with an address in place of the name."""
    scheme, _, port = place
    parts = urlsplit(url)
    where = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{where}:{port}", scheme=scheme).geturl()


async def _beginning(answer: "httpx.Response") -> bytes:
    read = b""
    async for piece in answer.aiter_raw():
        read += piece
        if len(read) >= READ_BYTES:
            break
    return read[:READ_BYTES]


def _said(error: Exception) -> str:
    return f"{type(error).__name__} {printable(masked(str(error)))[:200]}".strip()
