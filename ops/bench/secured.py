"""The cost of tokens, TLS and proofs in Redis: each is measured beside the same without it, in turns."""

import asyncio
import shutil
import ssl
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import httpx

from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.event import parse
from unlost.ops.bench import processor
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.client import BatchPoster, checked, request
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.load import events
from unlost.ops.bench.results import Results
from unlost.ops.bench.stages import BATCH, LARGEST, SINGLES, TOKEN
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, free_ports

OPEN, WITH_TOKEN, WITH_TLS = "publish, open", "publish, with a token", "publish, with a token and TLS"
PLAIN, PROVEN = "claim and settle", "claim and settle, proven"
UP_WITHIN = 60.0
SECRET = "bench" * 8


class SecuredProducer:
    """A producer of its own, and a publisher that it lets in."""

    def __init__(self, child: Child, url: str, token: str, tls: ssl.SSLContext | None) -> None:
        self._child = child
        self._url = url
        self._tls = tls
        self._head = b"Authorization: Bearer %b\r\n" % token.encode() if token else b""
        self._poster = BatchPoster(url, tls)

    async def __aenter__(self) -> Self:
        """Start it; return once it is ready."""
        self._child.start()
        async with asyncio.timeout(UP_WITHIN), httpx.AsyncClient(trust_env=False, verify=self._tls or True) as client:
            while not await self._is_ready(client):  # noqa: ASYNC110  another process gets ready
                await asyncio.sleep(0.1)
        return self

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self._url}/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        self._poster.close()
        await asyncio.to_thread(self._child.stop)

    async def publish(self, lines: Sequence[bytes]) -> Measured:
        """Publish each event in a request of its own."""
        await self._poster.open()
        requests = [request("/publish", line, self._head) for line in lines]

        async def work() -> None:
            for answer in await asyncio.gather(*map(self._poster.send, requests)):
                checked(answer)

        return await _counted([self._child.pid], len(lines), work)


async def measure(bed: Bed, results: Results, *, count: int, size: int, rounds: int) -> None:
    """Measure what tokens, TLS and proofs cost."""
    published = await publishing(count=count // SINGLES, size=size, rounds=rounds)
    claimed = await claiming(bed, count=count, size=size, rounds=rounds)
    for name, taken in (published | claimed).items():
        results.keep(name, taken)
    if WITH_TLS not in published:
        results.say(f"{WITH_TLS:<32}not measured: it needs the command openssl")
    results.compare("token", *([one.rate for one in published[name]] for name in (WITH_TOKEN, OPEN)))
    results.compare("proven", *([one.cost for one in claimed[name]] for name in (PROVEN, PLAIN)))


async def publishing(*, count: int, size: int, rounds: int) -> dict[str, list[Measured]]:
    """Measure single publications to producers with neither tokens nor TLS, with tokens, and with both, in turns."""
    found: defaultdict[str, list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="unlost-secured-", ignore_cleanup_errors=True) as directory:
        async with AsyncExitStack() as stack:
            producers = {
                name: await stack.enter_async_context(one) for name, one in _producers(Path(directory)).items()
            }
            for number in range(rounds + 1):  # the first warms up
                for name, producer in producers.items():
                    measured = await producer.publish(events(count, f"{number}-{name[-3:]}", size))
                    if number:
                        found[name].append(measured)
    return dict(found)


def _producers(directory: Path) -> dict[str, SecuredProducer]:
    made = {OPEN: _producer(directory / "open"), WITH_TOKEN: _producer(directory / "token", tokens=True)}
    if certificate := _certificate(directory):
        made[WITH_TLS] = _producer(directory / "tls", tokens=True, certificate=certificate)
    return made


def _producer(data: Path, *, tokens: bool = False, certificate: Path | None = None) -> SecuredProducer:
    extra = {"LOG_LEVEL": "warning"} | ({"TLS_CERT": str(certificate)} if certificate else {})
    layout = Layout(data, free_ports(1), extra)
    layout = layout.with_tokens() if tokens else layout
    url = layout.producer_url.replace("http", "https") if certificate else layout.producer_url
    tls = ssl.create_default_context(cafile=certificate) if certificate else None
    return SecuredProducer(layout.producer(), url, layout.tokens.user if layout.tokens else "", tls)


def _certificate(directory: Path) -> Path | None:
    """Make a certificate with its key; None if this machine has no ``openssl``."""
    if (openssl := shutil.which("openssl")) is None:
        return None
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
            str(certificate),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


async def claiming(bed: Bed, *, count: int, size: int, rounds: int) -> dict[str, list[Measured]]:
    """Measure claims that are won and settled, with and without a secret, in turns."""
    found: dict[str, list[Measured]] = {PLAIN: [], PROVEN: []}
    for number in range(rounds + 1):
        for name, secret in ((PLAIN, ""), (PROVEN, SECRET)):
            lines = events(count, bed.new_run(), size)
            parsed = [parse(line, max_bytes=LARGEST) for line in lines]
            measured = await _claimed(bed, [ClaimRequest(one.event_id, one.digest) for one in parsed], secret)
            if number:
                found[name].append(measured)
    return found


async def _claimed(bed: Bed, requests: Sequence[ClaimRequest], secret: str) -> Measured:
    claims = RedisClaims(
        redis_servers(bed.system.redis_url, timeout=5.0), token=TOKEN, group="bench", lease_seconds=30,
        window_seconds=600_000, secret=secret,
    )  # fmt: skip
    await claims.place()

    async def work() -> None:
        for first in range(0, len(requests), BATCH):
            some = requests[first : first + BATCH]
            await claims.claim(some, take_over=False)
            await claims.settle(some, "done")

    try:
        return await _counted([bed.system.valkey.child.pid], len(requests), work)
    finally:
        await claims.close()


async def _counted(pids: Sequence[int | None], count: int, work: Callable[[], Awaitable[None]]) -> Measured:
    before, started = processor.seconds(pids), time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    return Measured(count, seconds, processor.seconds(pids) - before)
