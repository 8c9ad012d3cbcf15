"""TLS on every wire, with real handshakes: what fails is one clear sentence, and what is right works."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect

from tests.end_to_end.producer.conftest import RunningProducer
from tests.support.tls import Authority, Pair, demanding, tls_before
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.errors import translated
from unlost.listener.core.errors import Transient
from unlost.listener.source.websocket.loss import loss_of
from unlost.listener.source.websocket.messages import connect_to
from unlost.listener.store.postgres.database import Database
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.tls_settings import unverified
from unlost.ops.kit.access.token_file import save_entries
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry import http as http_module
from unlost.ops.kit.telemetry.handshakes import MOST, Handshakes
from unlost.ops.kit.telemetry.tls import HANDSHAKE_SECONDS, LEAST_VERSION, ServerTls
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.valkey import ValkeyServer
from unlost.ops.watch.query import Watch
from unlost.ops.watch.settings import WatchSettings
from unlost.ops.watch.targets import WatchTargets

FAULTS = {
    "untrusted": "signed by an authority that is not trusted; set {}_CA",
    "expired": "the server's certificate has expired",
    "name": "the server's certificate is for another name",
}
NO_CERTIFICATE = "the server requires a client certificate; set {}_CERT"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "others")


def wrong(fault: str, ours: Authority, others: Authority) -> ssl.SSLContext:
    """The context of a server that a client must not trust, or that does not trust the client."""
    match fault:
        case "untrusted":
            return others.issue("server").context()
        case "expired":
            return ours.issue("expired", expired=True).context()
        case _:
            return ours.issue("name", "elsewhere.example").context()


async def postgres_says(port: int, ours: Authority) -> str:
    settings = ConnectionSettings.load(
        {"database_url": f"postgresql://u:secret@127.0.0.1:{port}/d", "database_ca": str(ours.file)}
    )
    with pytest.raises(Transient) as failed:
        await Database(settings.database_url.reveal()).open()
    assert "secret" not in str(failed.value)
    return str(failed.value)


async def redis_says(port: int, ours: Authority) -> str:
    settings = ConnectionSettings.load({"redis_url": f"rediss://127.0.0.1:{port}/0", "redis_ca": str(ours.file)})
    client = connect_redis(settings.redis_url.reveal(), timeout=5)
    try:
        await client.ping()
    except Exception as error:  # noqa: BLE001  the library raises what it likes; its translation is what counts
        return str(translated(error, "claiming"))
    finally:
        await client.aclose()
    return "it worked"


async def source_says(port: int, ours: Authority) -> str:
    settings = ListenerSettings.load({"ws_url": f"wss://127.0.0.1:{port}/", "ws_ca": str(ours.file)})
    try:
        async with connect_to(f"wss://127.0.0.1:{port}/", settings.stream().websocket, max_size=1024):
            return "it worked"
    except Exception as error:  # noqa: BLE001
        return loss_of(error).why


async def watch_says(port: int, ours: Authority) -> str:
    url = f"https://127.0.0.1:{port}"
    settings = WatchSettings.load({"listeners": url, "unlost_ca": str(ours.file)})
    watch = Watch(WatchTargets((url,), None, (), "unlost"), None, settings.client())
    try:
        picture, _ = await watch.look()
        return picture.listeners[0].error
    finally:
        await watch.close()


WIRES = {
    "DATABASE": (postgres_says, True), "REDIS": (redis_says, False), "WS": (source_says, False),
    "UNLOST": (watch_says, False),
}  # fmt: skip


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bad_certificate_is_reported_in_one_sentence(wire: str, fault: str, ours: Authority, others: Authority):
    says, is_postgres = WIRES[wire]
    async with tls_before(wrong(fault, ours, others), postgres=is_postgres) as port:
        async with asyncio.timeout(10):
            assert FAULTS[fault].format(wire) in await says(port, ours)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_missing_client_certificate_is_one_sentence(wire: str, ours: Authority):
    says, is_postgres = WIRES[wire]
    with demanding(ours.issue("server").context(requires=ours.file), postgres=is_postgres) as port:
        async with asyncio.timeout(10):
            assert NO_CERTIFICATE.format(wire) in await says(port, ours)


async def test_verified_servers_work(
    ours: Authority, postgres_server: PostgresServer, valkey_server: ValkeyServer, database_url: str, redis_url: str
):
    client = ours.issue("client", "client.example")
    context = ours.issue("server").context(requires=ours.file)
    async with (
        tls_before(context, int(postgres_server.port), postgres=True) as postgres,
        tls_before(context, int(valkey_server.port)) as redis,
    ):
        settings = ConnectionSettings.load(
            {
                "database_url": database_url.replace(f":{postgres_server.port}/", f":{postgres}/"),
                "database_ca": str(ours.file), "database_cert": str(client.file),
                "redis_url": redis_url.replace("redis://", "rediss://").replace(
                    f":{valkey_server.port}/", f":{redis}/"
                ),
                "redis_ca": str(ours.file), "redis_cert": str(client.file),
            }
        )  # fmt: skip
        assert await Database(settings.database_url.reveal()).open()
        connected = connect_redis(settings.redis_url.reveal(), timeout=5)
        assert await connected.ping()
        await connected.aclose()


@pytest.fixture(scope="module")
def machine(ours: Authority) -> Pair:
    return ours.issue("machine", "machine.example", common_name="machine")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, ours: Authority, machine: Pair) -> Iterator[RunningProducer]:
    """A producer with TLS, and client certificates as identities."""
    directory = tmp_path_factory.mktemp("secured")
    save_entries(
        directory / "tokens.jsonl",
        [
            TokenEntry("reader", ("admin",), digest_of(TOKEN)),
            TokenEntry("machine", ("publish",), subject=machine.subject),
        ],
    )
    shutil.copy(ours.issue("first").file, directory / "server.pem")
    settings = {
        "TOKENS_FILE": str(directory / "tokens.jsonl"), "TLS_CERT": str(directory / "server.pem"),
        "TLS_CLIENT_CA": str(ours.file),
    }  # fmt: skip
    one = RunningProducer(directory / "journal.sqlite", settings)
    one.start()
    one.http.close()
    yield one
    one.end()


TOKEN = new_token()
BEARER = {"authorization": f"Bearer {TOKEN}"}
EVENT = {"event_id": "a", "payload": {}}


def trusting(ca: Path, cert: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert)
    return context


def publishing(producer: RunningProducer, context: ssl.SSLContext, **headers: str) -> int:
    with httpx.Client(verify=context, trust_env=False, timeout=10) as client:
        return client.post(f"{producer.url}/publish", json=EVENT, headers=headers).status_code


def test_a_certificate_is_an_identity(secured: RunningProducer, ours: Authority, machine: Pair):
    with httpx.Client(verify=trusting(ours.file, machine.file), trust_env=False) as client:
        assert client.post(f"{secured.url}/publish", json={**EVENT, "event_id": "m"}).status_code == 202
        assert client.get(f"{secured.url}/metrics").status_code == 403
        wrong = {"authorization": f"Bearer {new_token()}"}
        assert client.post(f"{secured.url}/publish", json=EVENT, headers=wrong).status_code == 401
    stranger = ours.issue("stranger", "stranger.example", common_name="stranger")
    assert publishing(secured, trusting(ours.file, stranger.file)) == 401


async def test_the_stream_speaks_tls_too(secured: RunningProducer, ours: Authority):
    assert secured.stream.startswith("wss://")
    async with connect(secured.stream, ssl=trusting(ours.file), additional_headers=BEARER, proxy=None):
        pass


def test_a_certificate_of_another_authority_is_refused(secured: RunningProducer, ours: Authority, others: Authority):
    foreign = others.issue("shop", "shop.example", common_name="shop").file
    with pytest.raises(httpx.TransportError):
        publishing(secured, trusting(ours.file, foreign))


def test_without_certificate_and_token_there_is_an_answer(secured: RunningProducer, ours: Authority):
    assert publishing(secured, trusting(ours.file)) == 401
    assert publishing(secured, trusting(ours.file), **BEARER) in (202, 409)


def test_an_old_version_of_tls_is_refused(secured: RunningProducer, ours: Authority):
    old = trusting(ours.file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(httpx.TransportError):
        publishing(secured, old)
    assert LEAST_VERSION is ssl.TLSVersion.TLSv1_2


def test_a_new_certificate_is_served_within_a_second_and_a_broken_one_never(secured: RunningProducer, ours: Authority):
    file = Path(secured.settings["TLS_CERT"])
    before = served(secured)
    shutil.copy(ours.issue("second").file, file)
    changed = time.monotonic()
    while served(secured) == before:
        assert time.monotonic() - changed < 3
    after = served(secured)
    file.write_text("nonsense")
    with httpx.Client(verify=trusting(ours.file), trust_env=False, headers=BEARER) as client:
        while not (remarks := client.get(f"{secured.url}/health").json()["remarks"]):
            assert time.monotonic() - changed < 6
    assert "the earlier certificate stays in use" in remarks[0]
    assert served(secured) == after


def served(producer: RunningProducer) -> str:
    host, _, port = producer.url.removeprefix("https://").partition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_files_that_do_not_fit_are_tried_again_although_they_look_the_same(ours: Authority, tmp_path: Path):
    first, second = ours.issue("first").file.read_bytes(), ours.issue("second").file.read_bytes()
    file = tmp_path / "server.pem"
    file.write_bytes(first)
    tls = ServerTls(file)
    file.write_bytes(b"x" * len(second))
    found = file.stat()
    assert not tls.refresh()
    assert tls.error
    file.write_bytes(second)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert tls.refresh()
    assert tls.error == ""


@contextlib.asynccontextmanager
async def hello(tls: Handshakes) -> AsyncIterator[int]:
    """A server that says hello; its port."""
    server = http_module.HttpServer(PlainTextResponse("hello"), tls=tls)
    try:
        yield await server.start()
    finally:
        await server.stop()


async def greeted(port: int, context: ssl.SSLContext) -> str:
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(f"https://127.0.0.1:{port}/")).text


async def test_an_authority_that_is_replaced_is_trusted_no_more(
    ours: Authority, others: Authority, machine: Pair, tmp_path: Path
):
    client_ca = tmp_path / "clients.pem"
    shutil.copy(ours.file, client_ca)
    tls = ServerTls(ours.issue("server").file, client_ca=client_ca)
    theirs = trusting(ours.file, others.issue("client", "client.example").file)
    async with hello(Handshakes(tls)) as port:
        assert await greeted(port, trusting(ours.file, machine.file)) == "hello"
        with pytest.raises(httpx.TransportError):
            await greeted(port, theirs)
        shutil.copy(others.file, client_ca)
        assert tls.refresh()
        assert await greeted(port, theirs) == "hello"
        with pytest.raises(httpx.TransportError):
            await greeted(port, trusting(ours.file, machine.file))


async def test_a_client_that_never_shakes_hands_is_dropped(ours: Authority):
    async with hello(Handshakes(ServerTls(ours.issue("server").file), seconds=0.2)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()


async def test_half_done_handshakes_are_bounded_and_keep_nobody_out(ours: Authority):
    dropped: list[None] = []
    tls = Handshakes(ServerTls(ours.issue("server").file), most=3)
    tls.dropped = lambda: dropped.append(None)
    async with hello(tls) as port, asyncio.timeout(4):  # less than a handshake may take
        stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        assert await stalled[0][0].read() == b"", "the oldest was dropped"
        assert (len(tls), len(dropped)) == (3, 1)
        for _ in range(5):
            assert await greeted(port, trusting(ours.file)) == "hello"
        assert (len(tls), len(dropped)) == (2, 2)
        for _, writer in stalled:
            writer.close()


def found(pattern: str, metrics: str) -> float:
    sample = re.search(pattern, metrics, re.MULTILINE)
    assert sample is not None
    return float(sample[1])


async def test_servers_with_hundreds_of_half_done_handshakes_answer(secured: RunningProducer, ours: Authority):
    stalled = []
    for url in (secured.url, secured.stream):
        address = urlsplit(url)
        stalled += [await asyncio.open_connection("127.0.0.1", address.port) for _ in range(MOST + 50)]
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        async with httpx.AsyncClient(verify=trusting(ours.file), trust_env=False, headers=BEARER) as client:
            shown = (await client.get(f"{secured.url}/metrics")).text
        async with connect(secured.stream, ssl=trusting(ours.file), additional_headers=BEARER, proxy=None):
            pass
    assert 0 < found(r"^unlost_tls_handshakes (.*)$", shown) <= MOST
    assert found(r'unlost_refused_requests_total{reason="handshake"} (.*)', shown) >= MOST
    for _, writer in stalled:
        writer.close()


@pytest.mark.parametrize(
    ("url", "is_verified"),
    [
        ("postgresql://u@127.0.0.1/d", True), ("postgresql:///d?host=/run/postgresql", True),
        ("postgresql://u@localhost:5432/d", True), ("postgresql://u@db/d?sslmode=verify-full", True),
        ("postgresql://u@db/d", False), ("postgresql://u@db/d?sslmode=require", False),
        ("postgresql://u@127.0.0.1,db/d", False), ("postgresql://u@/d?host=db", False),
        ("postgresql://u@db/d?sslmode=verify-ca", False),
    ],
)  # fmt: skip
def test_an_unverified_postgresql_on_another_machine_is_warned_of(url: str, is_verified: bool):
    assert bool(unverified(url)) is not is_verified


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"tls_key": "k"}, "need --tls-cert"),
        ({"tls_cert": "missing.pem"}, "TLS_CERT"),
        ({"tls_cert": "GOOD", "tls_client_ca": "CA"}, "TOKENS_FILE"),
        ({"database_ca": "missing.pem"}, "DATABASE_CA"),
        ({"redis_ca": "CA"}, "rediss://"),
        ({"ws_cert": "CA"}, "WS_CERT"),
        ({"ws_key": "CA"}, "WS_CERT"),
    ],
)
def test_a_mistake_in_the_settings_is_one_sentence(ours: Authority, given: dict[str, str], reported: str):
    files = {"CA": str(ours.file), "GOOD": str(ours.issue("server").file)}
    with pytest.raises(UsageProblem) as refused:
        ListenerSettings.load({name: files.get(value, value) for name, value in given.items()})
    (problem,) = refused.value.problems
    assert reported in problem


def test_the_address_of_a_server_names_its_files(ours: Authority):
    loaded = ConnectionSettings.load(
        {"database_url": "postgresql://u@db/d?sslmode=verify-ca", "database_ca": str(ours.file)}
    )
    assert loaded.database_url.reveal() == f"postgresql://u@db/d?sslmode=verify-ca&sslrootcert={ours.file}"
    again = ConnectionSettings.load(json.loads(json.dumps({"database_url": loaded.database_url.reveal()})))
    assert again.database_url == loaded.database_url
